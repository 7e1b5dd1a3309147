"""What is timed: a Senna (a checkpoint, or random weights of a stated shape) or another host, and one prompt for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import msgspec
import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.modeling_outputs import BaseModelOutputWithPooling

from senna_prune.benchmark.settings import MAX_POSITIONS, VIEWS, BenchmarkConfig, TimedModelConfig, require_memory
from senna_prune.cost import ModelShape
from senna_prune.engine import PruneTrace, prune
from senna_prune.engine.captured import CapturedDecoder
from senna_prune.engine.readout import AnswerTrie, score_answers
from senna_prune.hosts.host import VISION_SCORES, find_host
from senna_prune.hosts.senna import SennaHost
from senna_prune.model.checkpoint import load_senna
from senna_prune.model.configuration import SennaConfig, model_shape
from senna_prune.model.modeling import SennaImageFeatures
from senna_prune.model.packed_linear import pack_linears
from senna_prune.model.processing import pixel_values_of
from senna_prune.model.token_layout import TokenLayout
from senna_prune.planner.readouts import plan_trie
from senna_prune.pruning import Pruner
from senna_prune.pruning.base import VisionScores
from senna_prune.task.labels import PLANS, Command
from senna_prune.task.prompts import planning_prompt, planning_question

# Pieces per word as Llama's tokenizer spells them, give or take one; random weights have no tokenizer of their own.
_PIECES = {"KEEP": 3, "ACCELERATE": 4, "DECELERATE": 5, "STOP": 2, "STRAIGHT": 4}
_PIECES |= {"RIGHT": 1, "LEFT": 2, "_": 1, "TURN": 2, "CHANGE": 3}
IMAGE = 3
"""Placeholder of the other hosts; random text has greater numbers."""


@dataclass
class TimedModel:
    """A host model and inputs for it, on their device.

    Attributes:
        input_ids: one prompt with placeholders, (length,).
        pixel_values: (views, 3, H, W), or None for a model without a vision tower.
        features: visual tokens and vision scores of that frame, as `get_image_features` of the model returns them.
        trie: the 20 answers.
        images: the frame before preprocessing.
        captured: its compiled passes.
    """

    model: Any
    input_ids: Tensor
    pixel_values: Tensor | None
    features: Any
    trie: AnswerTrie
    images: list[np.ndarray]
    captured: CapturedDecoder = field(default_factory=CapturedDecoder)

    @property
    def config(self) -> SennaConfig:
        return self.model.config

    @property
    def device(self) -> torch.device:
        return self.model.device

    @cached_property
    def scores(self) -> list[VisionScores]:
        assert self.features.cls_attention is not None
        return SennaHost(self.model).vision_scores(self.features.cls_attention, self.features.patch_keys)

    @cached_property
    def layout(self) -> TokenLayout:
        host = find_host(self.model)
        assert host is not None
        return host.layouts([self.input_ids.cpu()], self.features)[0]

    def shape(self, dtype: torch.dtype) -> ModelShape:
        """The numbers that decide its cost, when run in `dtype`."""
        return model_shape(self.config, dtype)

    def inputs(self, batch: int = 1) -> dict[str, Any]:
        """Arguments of `forward` and `generate` for the frame, repeated `batch` times."""
        return {
            "input_ids": self.input_ids.expand(batch, -1),
            "image_features": self.features.tokens.expand(batch, -1, -1, -1),
        }

    def prompt(self, batch: int = 1) -> dict[str, Any]:
        """What stands for `inputs` where nothing shall make the host wait: embeddings, placeholders not counted."""
        inputs = self.inputs(batch)
        return {"inputs_embeds": self.model.model.embed(**inputs, check_placeholders=False)}

    def context(self, pruner: Pruner | Any, batch: int = 1, compiled: bool = False) -> Any:
        """The `prune` context of this prompt."""
        vision, captured = self.scores * batch, self.captured if compiled else False
        return prune(self.model, pruner, layouts=[self.layout] * batch, vision=vision, compiled=captured)

    def preprocess(self) -> None:
        pixel_values_of(self.images, self.config.vision_config.image_size)

    @torch.inference_mode()
    def encode(self, scores: bool = False, compiled: bool = False) -> tuple[Tensor, Tensor | None, Tensor | None]:
        assert self.pixel_values is not None
        inner, pixels = self.model.model, self.pixel_values
        run = inner.run_tower
        entering, hidden = self.captured.call(run, pixels, "the vision tower") if compiled else run(pixels)
        attention, keys = inner.vision_scores(entering) if scores else (None, None)
        return hidden[:, 1:], attention, keys

    @torch.inference_mode()
    def adapt(self, patches: Tensor, compiled: bool = False) -> Tensor:
        adapt = self.model.model.adapt
        return self.captured.call(adapt, patches, "the adapter") if compiled else adapt(patches)

    @torch.inference_mode()
    def prefill(self, pruner: Pruner | Any | None, batch: int = 1, compiled: bool = False) -> PruneTrace | None:
        """The prompt through the decoder, up to the logits of the first new token."""
        if pruner is None:
            self.model(**self.inputs(batch), use_cache=True, logits_to_keep=1)
            return None
        with self.context(pruner, batch, compiled) as trace:
            self.model(**self.prompt(batch), use_cache=True, logits_to_keep=1)
        return trace

    @torch.inference_mode()
    def generate(self, pruner: Pruner | None, new_tokens: int) -> None:
        """A plan by transformers' own greedy `generate`."""
        arguments = self.inputs() | {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False}
        if pruner is None:
            self.model.generate(**arguments)
            return
        with self.context(pruner):
            self.model.generate(**arguments)

    @torch.inference_mode()
    def one_pass(self, pruner: Pruner, compiled: bool = False) -> None:
        """A plan by one pass over the answer trie."""
        with self.context(pruner, compiled=compiled):
            out = self.model(**self.prompt(), use_cache=True, logits_to_keep=1)
            score_answers(self.model, out.past_key_values, out.logits[:, -1], self.trie).most_probable()

    def attend_with(self, implementation: str) -> None:
        """Switch the attention implementation of the whole model."""
        if str(self.model.config._attn_implementation) != implementation:
            self.model.set_attn_implementation(implementation)


class TimedHost(TimedModel):
    """Another host than Senna: one prompt with one image, encoded already."""

    def inputs(self, batch: int = 1) -> dict[str, Any]:
        tokens, scores = self.features.pooler_output[0], self.features[VISION_SCORES]
        assert scores.keys is not None
        outputs = BaseModelOutputWithPooling(pooler_output=cast(Any, [tokens] * batch))
        outputs[VISION_SCORES] = VisionScores(scores.score.repeat(batch), scores.keys.repeat(batch, 1))
        ids = self.input_ids.expand(batch, -1)
        inputs = {"input_ids": ids, "mm_encoder_outputs": {"image": outputs}}
        if self.model.config.model_type == "qwen2_5_vl":  # an image as square as can be
            rows = next(rows for rows in range(math.isqrt(len(tokens)), 0, -1) if len(tokens) % rows == 0)
            sizes = torch.tensor([[1, 2 * rows, 2 * len(tokens) // rows]] * batch, device=self.device)
            inputs |= {"image_grid_thw": sizes, "mm_token_type_ids": (ids == IMAGE).int()}
        return inputs

    def prompt(self, batch: int = 1) -> dict[str, Any]:
        return self.inputs(batch)

    def context(self, pruner: Any, batch: int = 1, compiled: bool = False) -> Any:
        return prune(self.model, pruner)

    def shape(self, dtype: torch.dtype) -> ModelShape:
        senna = SennaConfig(text_config=self.model.config.get_text_config().to_dict() | {"model_type": "llama"})
        tokens = self.layout.num_visual
        return msgspec.structs.replace(model_shape(senna, dtype), views=1, view_tokens=tokens, vision_layers=0)


def build_model(config: BenchmarkConfig, device: torch.device, packed: bool = False) -> TimedModel:
    """The model of a benchmark, in evaluation mode on `device`; `packed`: with the same weights in oneDNN's layout.

    Raises:
        ConfigError: random weights of that shape do not fit into the device's memory.
        CheckpointError: the checkpoint cannot be opened.
        InputError: these weights cannot be packed.
    """
    host, dtype, generator = config.host, getattr(torch, config.dtype), np.random.default_rng(0)
    images = [generator.integers(0, 256, (*config.images, 3), dtype=np.uint8) for _ in range(VIEWS)]
    model: Any
    if host.checkpoint:
        model, processor = load_senna(host.checkpoint, config.dtype, str(device))
        ids = processor.encode_prompt(planning_prompt(planning_question(6.0, Command.STRAIGHT.value)))
        trie = plan_trie(processor)
    else:
        require_memory(host.parameters * dtype.itemsize, device)
        shape = _senna(host) if host.kind == "senna" else _other_host(host)
        torch.manual_seed(0)
        with torch.device(device):  # made where it will run
            model = AutoModelForImageTextToText.from_config(shape, dtype=dtype, attn_implementation="sdpa")
        ids, trie = _random_prompt(host, model.config.image_token_id), _random_trie(host.vocabulary)
    model, ids = model.eval(), ids.to(device)
    if host.kind != "senna":
        tokens = (0.02 * torch.randn(host.view_tokens, host.hidden, device=device)).to(dtype)
        features = BaseModelOutputWithPooling(pooler_output=cast(Any, [tokens]))
        scores = torch.rand(len(tokens), device=device), torch.randn(len(tokens), 64, device=device)
        features[VISION_SCORES] = VisionScores(*scores)
        return TimedHost(model, ids, None, features, trie, [])
    if packed:
        pack_linears(model, model.model.img_adapter)
    if not model.config.num_vision_layers:
        return TimedModel(model, ids, None, _random_features(model.config, device, dtype), trie, images)
    pixels = pixel_values_of(images, model.config.vision_config.image_size).to(device, dtype)
    with torch.inference_mode():
        senna_features = model.get_image_features(pixels[None], output_vision_scores=True)
    return TimedModel(model, ids, pixels, senna_features, trie, images)


def _decoder(host: TimedModelConfig) -> dict[str, Any]:
    """Settings of a Llama-like decoder of the stated shape."""
    sizes = {"hidden_size": host.hidden, "intermediate_size": host.mlp, "num_hidden_layers": host.layers}
    heads = {"num_attention_heads": host.heads, "num_key_value_heads": host.heads}
    return sizes | heads | {"vocab_size": host.vocabulary, "max_position_embeddings": MAX_POSITIONS, "pad_token_id": 0}


def _senna(host: TimedModelConfig) -> SennaConfig:
    """A Senna of the stated shape. Without a tower one layer is made of which none runs: see the feature layer."""
    tower = {"hidden_size": host.vision_hidden, "intermediate_size": host.vision_mlp, "patch_size": host.patch}
    tower |= {"num_hidden_layers": max(host.vision_layers, 1), "num_attention_heads": host.vision_heads}
    return SennaConfig(
        vision_config=tower | {"image_size": host.image_size},
        text_config=_decoder(host),
        num_view_tokens=host.view_tokens,
        vision_feature_layer=-2 if host.vision_layers else 0,
    )


def _other_host(host: TimedModelConfig) -> Any:
    """The stated decoder behind a small tower that never runs."""
    text = {"model_type": "llama", **_decoder(host), "bos_token_id": 1, "eos_token_id": 2}
    parts: dict[str, Any] = {"image_token_id": IMAGE, "text_config": text}
    parts["vision_config"] = {"model_type": "clip_vision_model", "num_hidden_layers": 2, "hidden_size": 64}
    parts["vision_config"] |= {"intermediate_size": 64, "num_attention_heads": 1}
    if host.kind == "qwen2_5_vl":
        # Time, height and width share the pairs of a head as 2 : 3 : 3; four query heads share a key.
        pairs = host.hidden // host.heads // 2
        sections = [pairs - 2 * (3 * pairs // 8), 3 * pairs // 8, 3 * pairs // 8]
        rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}
        del text["model_type"]
        text |= {"num_key_value_heads": max(host.heads // 4, 1), "rope_parameters": rope}
        tower = {"depth": 1, "hidden_size": 64, "intermediate_size": 64, "num_heads": 1, "fullatt_block_indexes": [0]}
        tower["out_hidden_size"] = host.hidden
        parts |= {"vision_config": tower, "video_token_id": host.vocabulary - 1}
    return AutoConfig.for_model(host.kind, **parts)


def _random_features(config: SennaConfig, device: torch.device, dtype: torch.dtype) -> SennaImageFeatures:
    frames, width = (1, config.num_views), config.text_config.hidden_size
    return SennaImageFeatures(
        tokens=(0.02 * torch.randn(*frames, config.num_view_tokens, width, device=device)).to(dtype),
        cls_attention=torch.rand(*frames, config.num_patches, device=device),
        patch_keys=torch.randn(*frames, config.num_patches, 64, device=device),
    )


def _random_prompt(host: TimedModelConfig, image: int) -> Tensor:
    """Random text around one run of placeholders a view: a head, short labels between views, half of it behind them."""
    generator, views = torch.Generator().manual_seed(0), VIEWS if host.kind == "senna" else 1
    text = torch.randint(IMAGE + 1, host.vocabulary - 1, (host.text_tokens,), generator=generator)
    question, labels = host.text_tokens // 2, [8] * (views - 1)
    *before, behind = text.split([host.text_tokens - question - sum(labels), *labels, question])
    view = torch.full((host.view_tokens,), image)
    return torch.cat([*(part for text in before for part in (text, view)), behind])


def _random_trie(vocabulary: int) -> AnswerTrie:
    """The 20 answers with the branching and about the length they have under Llama's tokenizer."""
    numbers: dict[tuple[str, int], int] = {}

    def spell(word: str) -> list[int]:
        return [numbers.setdefault((word, i), 3 + len(numbers)) for i in range(_PIECES[word])]

    answers = []
    for speed, path in PLANS:
        tail, *rest = path.value.split("_")
        ids = [*spell(speed.value), 3, *spell(tail), *[i for word in rest for i in (*spell("_"), *spell(word))]]
        answers.append([i % vocabulary for i in ids])
    return AnswerTrie.build(answers)
