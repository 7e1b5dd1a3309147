"""The model against transformers' own modules, and against itself by other routes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from senna_prune.errors import InputError
from senna_prune.model import SennaForConditionalGeneration, planning_prompt, planning_question
from senna_prune.model.modeling import IGNORED_LABEL
from tests.fakes import tiny_senna, tiny_views

COMMANDS = ("go straight", "go straight and turn left", "turn right")


def batch_inputs(processor: Any, count: int = 3, side: str = "left") -> dict[str, Tensor]:
    prompts = [planning_prompt(planning_question(4.0 * i, COMMANDS[i])) for i in range(count)]
    return dict(processor(text=prompts, images=[tiny_views(seed=i) for i in range(count)], padding_side=side))


def generate(model: Any, inputs: dict[str, Any], **options: Any) -> Tensor:
    return model.generate(**inputs, do_sample=False, **options)


def positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


@pytest.mark.parametrize("feature_layer", [-1, -2, -3, 1])
def test_only_needed_vision_layers_run_and_give_the_towers_hidden_state(feature_layer: int) -> None:
    model, _ = tiny_senna()
    model.config.vision_feature_layer = feature_layer
    pixels, ran = torch.randn(2, 3, 56, 56), []
    for number, layer in enumerate(model.model.vision_tower.encoder.layers):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    with torch.no_grad():
        features = model.model.run_tower(pixels)[1][:, 1:]
        assert ran == list(range(model.config.num_vision_layers))
        states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    torch.testing.assert_close(features, states[feature_layer][:, 1:])


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_evidence_is_the_eager_attention_of_the_selected_layer(implementation: str) -> None:
    model, _ = tiny_senna(attn_implementation=implementation)
    pixels, keys = torch.randn(1, 6, 3, 56, 56), []
    with torch.no_grad():
        features = model.get_image_features(pixels, output_vision_scores=True)
        plain = model.get_image_features(pixels)
        attention = model.model.vision_tower.encoder.layers[-2].self_attn
        handle = attention.k_proj.register_forward_hook(lambda *hooked: keys.append(hooked[2]))
        model.set_attn_implementation("eager")
        attentions = model.model.vision_tower(pixels[0], output_attentions=True).attentions
        handle.remove()
    assert torch.equal(features.tokens, plain.tokens)
    assert plain.cls_attention is None
    assert plain.patch_keys is None
    assert features.cls_attention is not None
    assert features.patch_keys is not None
    torch.testing.assert_close(features.cls_attention[0], attentions[-2].mean(dim=1)[:, 0, 1:])
    torch.testing.assert_close(features.patch_keys[0], keys[0][:, 1:].unflatten(-1, (4, -1)).mean(dim=2))
    assert features.cls_attention.shape == (1, 6, 16)
    assert (features.cls_attention.sum(-1) < 1).all(), "the class token's share must not be normalised away"


@pytest.mark.parametrize("feature_layer", [-1, -2, 1, 0])
def test_image_features_are_an_output_of_transformers(feature_layer: int) -> None:
    model, _ = tiny_senna(attn_implementation="eager")
    model.config.vision_feature_layer = feature_layer
    pixels = torch.randn(2, 6, 3, 56, 56)
    asked = {"output_hidden_states": True, "output_attentions": True, "output_vision_scores": feature_layer != 0}
    with torch.no_grad():
        plain = model.get_image_features(pixels, output_vision_scores=feature_layer != 0)
        full = model.get_image_features(pixels, **asked)
        tower = model.model.vision_tower(pixels.flatten(0, 1), output_hidden_states=True, output_attentions=True)
        as_tuple = model.get_image_features(pixels, return_dict=False)
    assert plain.hidden_states is None
    assert plain.attentions is None
    for name, expected in plain.items():
        torch.testing.assert_close(full[name], expected)
    torch.testing.assert_close(full.hidden_states, tower.hidden_states)
    torch.testing.assert_close(full.attentions, tower.attentions)
    torch.testing.assert_close(full.last_hidden_state.flatten(0, 1), tower.hidden_states[feature_layer][:, 1:])
    assert torch.equal(plain.pooler_output, plain.tokens.flatten(1, 2))
    assert isinstance(as_tuple, tuple)
    assert torch.equal(as_tuple[0], plain.last_hidden_state)


def test_image_features_equal_pixel_values() -> None:
    model, processor = tiny_senna()
    inputs = batch_inputs(processor)
    text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        tokens = model.get_image_features(inputs["pixel_values"]).tokens
        assert torch.equal(model(**inputs).logits, model(**text, image_features=tokens).logits)
    from_pixels = generate(model, inputs, max_new_tokens=5)
    assert torch.equal(from_pixels, generate(model, text | {"image_features": tokens}, max_new_tokens=5))


def test_visual_tokens_stand_where_their_placeholders_stood() -> None:
    model, processor = tiny_senna()
    inputs = batch_inputs(processor, 1)
    with torch.no_grad():
        tokens = model.get_image_features(inputs["pixel_values"]).tokens
        embeds = model.model.embed(inputs["input_ids"], tokens)
    is_image = inputs["input_ids"][0] == model.config.image_token_id
    assert torch.equal(embeds[0, is_image], tokens[0].flatten(0, 1))
    words = model.get_input_embeddings()(inputs["input_ids"][0, ~is_image])
    assert torch.equal(embeds[0, ~is_image], words)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_padded_batch_equals_singles(side: str, implementation: str) -> None:
    model, processor = tiny_senna(attn_implementation=implementation)
    batch = batch_inputs(processor, side=side)
    mask = batch["attention_mask"].bool()
    assert not mask.all(), "the batch should be ragged"
    with torch.no_grad():
        logits = model(**batch, position_ids=positions(batch["attention_mask"])).logits
        for row in range(3):
            single = model(batch["input_ids"][row : row + 1, mask[row]], batch["pixel_values"][row : row + 1]).logits
            torch.testing.assert_close(logits[row, mask[row]], single[0], atol=2e-4, rtol=1e-4)


def test_generated_batch_equals_singles() -> None:
    model, processor = tiny_senna()
    batch = batch_inputs(processor)
    options = {"max_new_tokens": 6, "min_new_tokens": 6}
    generated = generate(model, batch, **options)[:, batch["input_ids"].shape[1] :]
    for row in range(3):
        own = batch["input_ids"][row : row + 1, batch["attention_mask"][row].bool()]
        pixels = batch["pixel_values"][row : row + 1]
        single = generate(model, {"input_ids": own, "pixel_values": pixels}, **options)
        assert single[0, own.shape[1] :].tolist() == generated[row].tolist()


def test_the_cache_does_not_change_what_is_generated() -> None:
    model, processor = tiny_senna()
    inputs = batch_inputs(processor, 1)
    with_cache, without = (generate(model, inputs, max_new_tokens=5, use_cache=use) for use in (True, False))
    assert with_cache.tolist() == without.tolist()


def test_beams_repeat_the_image_features() -> None:
    model, processor = tiny_senna()
    inputs = batch_inputs(processor, 2)
    inputs["image_features"] = model.get_image_features(inputs.pop("pixel_values")).tokens
    ids = generate(model, inputs, num_beams=2, max_new_tokens=3)
    assert ids.shape[0] == 2


def test_a_ready_mask_and_positions_reach_the_decoder() -> None:
    model, processor = tiny_senna()
    inputs = batch_inputs(processor, 1)
    length = inputs["input_ids"].shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    given = inputs | {"attention_mask": causal, "position_ids": torch.arange(length)[None]}
    with torch.no_grad():
        torch.testing.assert_close(model(**given).logits, model(**inputs).logits, atol=1e-4, rtol=1e-4)
        causal = causal.clone()
        causal[..., 40:, 3] = False
        assert not torch.allclose(model(**(given | {"attention_mask": causal})).logits, model(**inputs).logits)


def test_logits_to_keep() -> None:
    model, processor = tiny_senna()
    inputs = batch_inputs(processor, 1)
    with torch.no_grad():
        everything = model(**inputs).logits
        torch.testing.assert_close(model(**inputs, logits_to_keep=2).logits, everything[:, -2:])
        wanted = torch.tensor([0, 7])
        torch.testing.assert_close(model(**inputs, logits_to_keep=wanted).logits, everything[:, wanted])


def test_loss_learns_only_the_answer_and_reaches_every_part() -> None:
    model, processor = tiny_senna()
    inputs = batch_inputs(processor, 1)
    labels = inputs["input_ids"].clone()
    loss = model(**inputs, labels=labels).loss
    logits = model(**inputs).logits[0, :-1]
    targets = labels[0, 1:].masked_fill(labels[0, 1:] == model.config.image_token_id, IGNORED_LABEL)
    expected = torch.nn.functional.cross_entropy(logits, targets)
    torch.testing.assert_close(loss, expected)
    learnt = (targets != IGNORED_LABEL).sum()
    accumulated = model(**inputs, labels=labels, num_items_in_batch=3 * learnt).loss
    torch.testing.assert_close(accumulated, expected / 3)
    loss.backward()
    inner = model.model
    for module in (inner.vision_tower.embeddings, inner.multi_modal_projector, inner.img_adapter, inner.language_model):
        gradients = [parameter.grad for parameter in module.parameters()]
        assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients), type(module).__name__


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close(dtype: torch.dtype) -> None:
    model, processor = tiny_senna()
    inputs = batch_inputs(processor, 1)
    narrow: Any = tiny_senna()[0]
    with torch.no_grad():
        full = model(**inputs).logits
        half = narrow.to(dtype)(**inputs).logits
    assert half.dtype == dtype
    agreement = torch.nn.functional.cosine_similarity(half.float(), full, dim=-1)
    assert agreement.mean() > 0.98


def test_save_and_load_by_auto_class(tmp_path: Path) -> None:
    model, processor = tiny_senna()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert isinstance(loaded, SennaForConditionalGeneration)
    inputs = batch_inputs(processor, 1)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize(
    ("words", "multiple", "fits"), [(512, None, True), (513, None, False), (500, 64, True), (500, 300, False)]
)
def test_the_vocabulary_cannot_grow_over_the_image_placeholder(
    words: int, multiple: int | None, fits: bool, tmp_path: Path
) -> None:
    model, _ = tiny_senna()
    if not fits:
        with pytest.raises(InputError, match="id 512 of the image placeholder"):
            model.resize_token_embeddings(words, pad_to_multiple_of=multiple)
    else:
        model.resize_token_embeddings(words, pad_to_multiple_of=multiple)
    model.save_pretrained(tmp_path)
    assert AutoModelForImageTextToText.from_pretrained(tmp_path).config.image_token_id == 512


def test_seeds_decide_the_fake() -> None:
    one, again, other = (tiny_senna(seed=seed)[0].lm_head.weight for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def changed(ids: Tensor, place: Any, value: int) -> Tensor:
    ids = ids.clone()
    ids[0, place(ids[0])] = value
    return ids


BAD: dict[str, Any] = {
    "labels of shape": lambda given: {"labels": given["input_ids"][:, :-3]},
    "neither a word nor": lambda given: {"input_ids": changed(given["input_ids"], lambda row: 1, 600)},
    "60 wide, the decoder 64": lambda given: {"image_features": torch.zeros(1, 6, 8, 60), "pixel_values": None},
    "image placeholders": lambda given: {"input_ids": changed(given["input_ids"], lambda row: row == 512, 5)},
    "expected ('batch', 6, 3, 56, 56)": lambda given: {"pixel_values": given["pixel_values"][:, :5]},
    "(1, 6, 3, 56, 28)": lambda given: {"pixel_values": given["pixel_values"][..., :28]},
    "not both": lambda given: {"image_features": torch.zeros(1, 6, 8, 64)},
    "0 visual tokens": lambda given: {"pixel_values": None},
    "exactly one of": lambda given: {"inputs_embeds": torch.zeros(1, 4, 64)},
    "2 frames were given for 1 rows": lambda given: {"pixel_values": given["pixel_values"].expand(2, -1, -1, -1, -1)},
}


@pytest.mark.parametrize("complaint", BAD)
def test_contradictory_inputs_are_named(complaint: str) -> None:
    model, processor = tiny_senna()
    inputs: dict[str, Any] = batch_inputs(processor, 1)
    with pytest.raises(InputError) as caught:
        model(**inputs | BAD[complaint](inputs))
    assert complaint in str(caught.value)
