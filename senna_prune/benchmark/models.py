"""What is timed: a Senna (a checkpoint, or random weights of a stated shape) and one prompt for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import CompileConfig

from senna_prune.benchmark.settings import MAX_POSITIONS, VIEWS, BenchmarkConfig, TimedModelConfig, require_memory
from senna_prune.cost import ModelShape
from senna_prune.engine import PruneTrace, prune
from senna_prune.engine.captured import CapturedDecoder
from senna_prune.engine.readout import AnswerTrie, score_answers
from senna_prune.hosts.senna import adapter_paths, senna_vision_scores
from senna_prune.model.checkpoint import load_senna
from senna_prune.model.configuration import SennaConfig, model_shape
from senna_prune.model.modeling import SennaForConditionalGeneration, SennaImageFeatures
from senna_prune.model.packed_linear import pack_linears
from senna_prune.model.processing import pixel_values_of
from senna_prune.model.token_layout import TokenLayout
from senna_prune.model.vision import patch_features
from senna_prune.planner.readouts import plan_trie
from senna_prune.pruning import Pruner
from senna_prune.pruning.base import VisionScores
from senna_prune.task.labels import PLANS, Command
from senna_prune.task.prompts import planning_prompt, planning_question

# Pieces per word as Llama's tokenizer spells them, give or take one; random weights have no tokenizer of their own.
_PIECES = {"KEEP": 3, "ACCELERATE": 4, "DECELERATE": 5, "STOP": 2, "STRAIGHT": 4}
_PIECES |= {"RIGHT": 1, "LEFT": 2, "_": 1, "TURN": 2, "CHANGE": 3}


@dataclass
class TimedModel:
    """A host model and inputs for it, on their device.

    Attributes:
        input_ids: one prompt with placeholders, (length,).
        pixel_values: (views, 3, H, W), or None for a model without a vision tower.
        features: visual tokens and evidence of that frame: `SennaImageFeatures` for Senna.
        trie: the 20 answers.
        pictures: the frame before preprocessing.
        captured: its compiled passes.
    """

    model: Any
    input_ids: Tensor
    pixel_values: Tensor | None
    features: Any
    trie: AnswerTrie
    pictures: list[np.ndarray]
    captured: CapturedDecoder = field(default_factory=CapturedDecoder)

    @property
    def config(self) -> SennaConfig:
        return self.model.config

    @property
    def device(self) -> torch.device:
        return self.model.device

    @cached_property
    def evidence(self) -> list[VisionScores]:
        assert self.features.cls_attention is not None
        return senna_vision_scores(self.features.cls_attention, self.features.patch_keys, adapter_paths(self.model))

    @cached_property
    def layout(self) -> TokenLayout:
        ids = self.input_ids.cpu()
        return TokenLayout.from_ids(ids, self.config.image_token_id, self.config.num_view_tokens)

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
        return {"inputs_embeds": self.model.model.embed(**inputs, counted=True)}

    def context(self, pruner: Pruner | Any, batch: int = 1, compiled: bool = False) -> Any:
        """The `prune` context of this prompt."""
        vision, captured = self.evidence * batch, self.captured if compiled else False
        return prune(self.model, pruner, layouts=[self.layout] * batch, vision=vision, compiled=captured)

    @cached_property
    def compiled_forward(self) -> Any:
        """The plain decoder as `torch.compile` makes it."""
        return torch.compile(self.model.get_decoder().forward)

    @contextmanager
    def plain_compiled(self) -> Iterator[None]:
        """The plain decoder is compiled inside."""
        decoder, forward = self.model.get_decoder(), self.compiled_forward
        decoder.forward = forward
        try:
            yield
        finally:
            del decoder.forward

    def preprocess(self) -> None:
        pixel_values_of(self.pictures, self.config.vision_config.image_size)

    @torch.inference_mode()
    def see(self, evidence: bool = False, compiled: bool = False) -> tuple[Tensor, Tensor | None, Tensor | None]:
        assert self.pixel_values is not None
        inner, pixels = self.model.model, self.pixel_values
        run = inner.run_tower
        entering, hidden = self.captured.call(run, pixels, "the vision tower") if compiled else run(pixels)
        layers = inner.vision_tower.encoder.layers[: self.config.num_vision_layers]
        return patch_features(layers, entering, hidden, evidence)

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
    def generate_static(self, new_tokens: int) -> None:
        """A plan by `generate` with its static cache, whose steps it compiles."""
        steps: Any = CompileConfig()
        steps._compile_all_devices = True  # else it compiles on accelerators alone
        arguments = self.inputs() | {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False}
        self.model.generate(**arguments, cache_implementation="static", compile_config=steps)

    def generate_compiled(self, new_tokens: int) -> None:
        """A plan by `generate` on the plain model under `torch.compile`."""
        with self.plain_compiled():
            self.generate(None, new_tokens)

    def prefill_compiled(self) -> None:
        """The prompt through the plain decoder under `torch.compile`."""
        with self.plain_compiled():
            self.prefill(None)

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


def build_model(config: BenchmarkConfig, device: torch.device, packed: bool = False) -> TimedModel:
    """The model of a benchmark, in evaluation mode on `device`; `packed`: with the same weights in oneDNN's layout.

    Raises:
        ConfigError: random weights of that shape do not fit into the device's memory.
        CheckpointError: the checkpoint cannot be opened.
        InputError: these weights cannot be packed.
    """
    dtype, generator = getattr(torch, config.dtype), np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (*config.images, 3), dtype=np.uint8) for _ in range(VIEWS)]
    if config.host.checkpoint:
        model, processor = load_senna(config.host.checkpoint, config.dtype, str(device))
        prompt = planning_prompt(planning_question(6.0, Command.STRAIGHT.value))
        ids, trie = processor.encode_prompt(prompt), plan_trie(processor)
    else:
        require_memory(config.host.parameters * dtype.itemsize, device)
        model = random_senna(config.host, device, dtype)
        ids, trie = _random_prompt(model.config, config.host.text_tokens), random_trie(config.host.vocabulary)
    model = model.eval()
    if packed:
        pack_linears(model, model.model.img_adapter)
    size, pixels = model.config.vision_config.image_size, None
    if model.config.num_vision_layers:
        pixels = pixel_values_of(pictures, size).to(device, dtype)
        with torch.inference_mode():
            features = model.get_image_features(pixels[None], output_vision_scores=True)
    else:
        features = _random_features(model.config, device, dtype)
    return TimedModel(model, ids.to(device), pixels, features, trie.to(device), pictures)


def decoder_settings(host: TimedModelConfig) -> dict[str, Any]:
    """Settings of a Llama-like decoder of the stated shape."""
    return {
        "hidden_size": host.hidden,
        "intermediate_size": host.mlp,
        "num_hidden_layers": host.layers,
        "num_attention_heads": host.heads,
        "num_key_value_heads": host.heads,
        "vocab_size": host.vocabulary,
        "max_position_embeddings": MAX_POSITIONS,
        "pad_token_id": 0,
    }


def random_senna(host: TimedModelConfig, device: torch.device, dtype: torch.dtype) -> SennaForConditionalGeneration:
    """Random weights of the stated shape, made on the device."""
    config = SennaConfig(
        vision_config={
            "hidden_size": host.vision_hidden,
            "intermediate_size": host.vision_mlp,
            # The feature layer is the one before the last, as in Senna.
            "num_hidden_layers": max(host.vision_layers, 1),  # with 0, none of them runs: see the feature layer
            "num_attention_heads": host.vision_heads,
            "image_size": host.image_size,
            "patch_size": host.patch,
        },
        text_config=decoder_settings(host),
        num_view_tokens=host.view_tokens,
        vision_feature_layer=-2 if host.vision_layers else 0,
    )
    return made_on(
        device, dtype, lambda: SennaForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    )


def made_on(device: torch.device, dtype: torch.dtype, make: Callable[[], Any]) -> Any:
    """A module made where it will run, the same each time."""
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return make()
    finally:
        torch.set_default_dtype(default)


def _random_features(config: SennaConfig, device: torch.device, dtype: torch.dtype) -> SennaImageFeatures:
    frames, width = (1, config.num_views), config.text_config.hidden_size
    return SennaImageFeatures(
        tokens=(0.02 * torch.randn(*frames, config.num_view_tokens, width, device=device)).to(dtype),
        cls_attention=torch.rand(*frames, config.num_patches, device=device),
        patch_keys=torch.randn(*frames, config.num_patches, 64, device=device),
    )


def _random_prompt(config: SennaConfig, text_tokens: int) -> Tensor:
    """Random text around six runs of placeholders: a head, five short labels, and half of the text behind the views."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(3, config.text_config.vocab_size, (text_tokens,), generator=generator)
    label, question = 8, text_tokens // 2
    head = text_tokens - question - label * (config.num_views - 1)
    view = torch.full((config.num_view_tokens,), config.image_token_id)
    parts, used = [text[:head], view], head
    for _ in range(config.num_views - 1):
        parts += [text[used : used + label], view]
        used += label
    return torch.cat([*parts, text[used:]])


def random_trie(vocabulary: int) -> AnswerTrie:
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
