"""Senna on transformers: six camera views become visual tokens of a Llama decoder. Knows nothing of pruning."""

from __future__ import annotations

from typing import Any

from torch import LongTensor, Tensor, nn
from transformers import CLIPVisionModel, GenerationMixin, LlamaModel, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from senna_prune.errors import InputError
from senna_prune.model.configuration import SennaConfig
from senna_prune.model.token_layout import require_placeholders
from senna_prune.model.vision import (
    SennaImageAdapter,
    SennaImageFeatures,
    SennaMultiModalProjector,
    class_attention_and_keys,
)

IGNORED_LABEL = -100


class SennaPreTrainedModel(PreTrainedModel):
    """What transformers needs to know of both models below."""

    config: SennaConfig
    config_class = SennaConfig
    base_model_prefix = "model"
    input_modalities = ["image", "text"]  # noqa: RUF012
    supports_gradient_checkpointing = True
    _no_split_modules = ["LlamaDecoderLayer", "CLIPEncoderLayer"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_attention_backend = True

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """As in transformers, as long as the placeholder of visual tokens does not become a word.

        Raises:
            InputError: the vocabulary would hold `config.image_token_id`.
        """
        multiple = pad_to_multiple_of or 1
        if -(-(new_num_tokens or 0) // multiple) * multiple > self.config.image_token_id:
            problem = f"{new_num_tokens} words would take the id {self.config.image_token_id} of the image placeholder"
            raise InputError(problem, hint="first raise image_token_id in the model's configuration and the processor")
        return super().resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)


class SennaModel(SennaPreTrainedModel):
    """Vision tower, projector, adapter and decoder, without the language modelling head."""

    def __init__(self, config: SennaConfig) -> None:
        super().__init__(config)
        self.vision_tower = CLIPVisionModel(config.vision_config)
        self.multi_modal_projector = SennaMultiModalProjector(config)
        self.img_adapter = SennaImageAdapter(config)
        self.language_model = LlamaModel(config.text_config)
        self.post_init()

    def run_tower(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """States entering and leaving the selected layer, each (N, 1 + P, vision width); alike where there is none."""
        tower = self.vision_tower
        entering = hidden = tower.pre_layrnorm(tower.embeddings(pixel_values))
        for layer in tower.encoder.layers[: self.config.num_vision_layers]:
            entering, hidden = hidden, layer(hidden, None)
        return entering, hidden

    def vision_scores(self, entering: Tensor) -> tuple[Tensor, Tensor]:
        """`class_attention_and_keys` of the selected layer, from the states entering it.

        Raises:
            InputError: no layer runs.
        """
        layers: Any = self.vision_tower.encoder.layers
        if not self.config.num_vision_layers:
            raise InputError("vision_feature_layer 0 has no attention to read scores from", where="config.json")
        return class_attention_and_keys(layers[self.config.num_vision_layers - 1], entering)

    def adapt(self, features: Tensor) -> Tensor:
        """Visual tokens (N, T, D) of patch features (N, P, vision width)."""
        return self.img_adapter(self.multi_modal_projector(features))

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: Tensor,
        output_vision_scores: bool = False,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> SennaImageFeatures:
        """Visual tokens of whole frames, ready for `image_features=` of as many forward passes as wanted.

        Args:
            pixel_values: shape (B, views, 3, H, W).
            output_vision_scores: also return `cls_attention` and `patch_keys`; works with every attention kernel.
            output_hidden_states: also return `hidden_states`, which runs all layers; None: as the tower's settings say.
            output_attentions: as before, for `attentions`.

        Raises:
            InputError: `pixel_values` has another shape, or vision scores are asked for, but no layer runs.
        """
        size = self.config.vision_config.image_size
        expected = (self.config.num_views, self.config.vision_config.num_channels, size, size)
        if pixel_values.ndim != 5 or tuple(pixel_values.shape[1:]) != expected:
            raise InputError(
                f"pixel_values has shape {tuple(pixel_values.shape)}, expected {('batch', *expected)}",
                hint="pass all views of every frame, as SennaProcessor does",
            )
        tower, last = self.vision_tower, self.config.num_vision_layers
        frames, views = pixel_values.shape[:2], pixel_values.flatten(0, 1)
        if output_hidden_states is None:
            output_hidden_states = tower.config.output_hidden_states
        if output_attentions is None:
            output_attentions = tower.config.output_attentions
        states = attentions = cls_attention = keys = None
        if output_hidden_states or output_attentions:
            whole = tower(views, output_hidden_states=True, output_attentions=output_attentions, return_dict=True)
            states, attentions = whole.hidden_states, whole.attentions
            entering, hidden = states[max(last - 1, 0)], states[last]
        else:
            entering, hidden = self.run_tower(views)
        if output_vision_scores:
            cls_attention, keys = (part.unflatten(0, frames) for part in self.vision_scores(entering))
        tokens = self.adapt(hidden[:, 1:]).unflatten(0, frames)
        return SennaImageFeatures(
            last_hidden_state=hidden[:, 1:].unflatten(0, frames),
            pooler_output=tokens.flatten(1, 2),
            hidden_states=states if output_hidden_states else None,
            attentions=attentions,
            tokens=tokens,
            cls_attention=cls_attention,
            patch_keys=keys,
        )

    def embed(self, input_ids: Tensor, image_features: Tensor | None, check_placeholders: bool = True) -> Tensor:
        """Decoder inputs of shape (B, S, D): word embeddings with the visual tokens in the placeholders' stead.

        Args:
            check_placeholders: count them, which makes the host wait; not where every row is known to hold as many as
                there are visual tokens.

        Raises:
            InputError: a row does not hold one placeholder per visual token.
        """
        is_image = input_ids.eq(self.config.image_token_id)
        # The placeholder has no row in the embedding; any valid id will do, its embedding is overwritten.
        try:
            embeddings = self.get_input_embeddings()(input_ids.masked_fill(is_image, 0))
        except IndexError as error:
            raise InputError("input_ids hold an id that is neither a word nor the placeholder") from error
        expected = 0 if image_features is None else image_features.shape[1] * image_features.shape[2]
        if check_placeholders:
            require_placeholders(is_image.sum(dim=1).tolist(), expected)
        if image_features is None:
            return embeddings
        if image_features.shape[-1] != embeddings.shape[-1]:
            problem = f"image_features are {image_features.shape[-1]} wide, the decoder {embeddings.shape[-1]}"
            raise InputError(problem, hint="pass what get_image_features returned, or tokens of it")
        if image_features.shape[0] != input_ids.shape[0]:
            raise InputError(f"{image_features.shape[0]} frames were given for {input_ids.shape[0]} rows of input_ids")
        # The decoder may be on another device than ids and tower.
        places = is_image[..., None].to(embeddings.device)
        return embeddings.masked_scatter(places, image_features.to(embeddings))

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_features: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """See `SennaForConditionalGeneration.forward`."""
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError("give exactly one of input_ids and inputs_embeds")
        if pixel_values is not None and image_features is not None:
            raise InputError("give pixel_values or image_features, not both")
        if input_ids is not None:
            if pixel_values is not None:
                image_features = self.get_image_features(pixel_values, return_dict=True).tokens
            if image_features is None and past_key_values is not None and past_key_values.get_seq_length():
                # The views are in the cache. `embed` would count placeholders, which makes the host wait.
                inputs_embeds = self.get_input_embeddings()(input_ids)
            else:
                inputs_embeds = self.embed(input_ids, image_features)
        elif pixel_values is not None or image_features is not None:
            raise InputError("inputs_embeds already hold the visual tokens", hint="drop the image inputs")
        return self.language_model(inputs_embeds=inputs_embeds, past_key_values=past_key_values, **kwargs)


class SennaForConditionalGeneration(SennaPreTrainedModel, GenerationMixin):
    """Senna with its language modelling head; generates with transformers' own `generate`."""

    def __init__(self, config: SennaConfig) -> None:
        super().__init__(config)
        self.model = SennaModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_image_features(self, pixel_values: Tensor, **options: Any) -> SennaImageFeatures:
        """See `SennaModel.get_image_features`."""
        return self.model.get_image_features(pixel_values, **options)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """One pass of the decoder.

        Args:
            input_ids: shape (B, S), visual tokens as runs of `config.image_token_id`. Or `inputs_embeds` (B, S, D).
            pixel_values: shape (B, views, 3, H, W); or, computed before by `get_image_features`,
            image_features: shape (B, views, T, D). Neither once the visual tokens are in the cache.
            attention_mask: shape (B, S), or a ready mask of shape (B, 1, S, cache + S), passed on to the decoder.
            position_ids: shape (B, S); counted from the cache if absent.
            labels: shape (B, S), -100 where nothing is to be learnt; shifted here. Placeholders are never learnt.
            logits_to_keep: compute logits of only the last so many positions (0: all), or of these positions.
            **kwargs: for the decoder and, given labels, for the loss (`num_items_in_batch`, `shift_labels`).

        Raises:
            InputError: contradictory inputs, labels of another length, or placeholders and visual tokens that do not
                match.
        """
        given = input_ids if inputs_embeds is None else inputs_embeds
        if labels is not None and given is not None and labels.shape != given.shape[:2]:
            problem = f"labels of shape {tuple(labels.shape)} were given for tokens of shape {tuple(given.shape[:2])}"
            raise InputError(problem, hint="give one label per token of the prompt")
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            image_features=image_features,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        wanted = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, wanted])
        loss = None
        if labels is not None:
            labels = labels.masked_fill(labels.eq(self.config.image_token_id), IGNORED_LABEL)
            vocab_size = self.config.text_config.vocab_size
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: LongTensor,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        # `generate` takes embeddings of a prompt only where this signature names them.
        inputs = super().prepare_inputs_for_generation(  # type: ignore[misc]
            input_ids, inputs_embeds=inputs_embeds, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            inputs.pop("pixel_values", None)
            inputs.pop("image_features", None)
        return inputs
