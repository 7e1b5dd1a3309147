"""The one-image LLaVA of the goldens, from its weight files: as a bare decoder, and as transformers' own class."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from senna_prune.engine import prune
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning import Pruner
from senna_prune.pruning.base import VisionScores
from tests.conftest import goldens

IMAGE = -200
NUM_PATCHES = 576


@dataclass(frozen=True)
class TinyLlava:
    """Vision tower, projector and decoder in float32."""

    tower: CLIPVisionModel
    projector: nn.Sequential
    decoder: LlamaForCausalLM

    @torch.no_grad()
    def look(self, pixels: Tensor) -> tuple[Tensor, VisionScores]:
        """Features of layer -2, shape (577, 32), and that layer's CLS attention and keys on the patches."""
        keys: list[Tensor] = []
        attention: Any = self.tower.encoder.layers[-2].self_attn
        handle = attention.k_proj.register_forward_hook(lambda module, args, output: keys.append(output))
        seen = self.tower(pixels, output_hidden_states=True, output_attentions=True)
        handle.remove()
        score = seen.attentions[-2][0, :, 0, 1:].mean(0)
        key = keys[0][0].unflatten(-1, (attention.num_heads, -1)).mean(1)
        return seen.hidden_states[-2][0], VisionScores(score, key[1:])

    @torch.no_grad()
    def embed(self, ids: Tensor, features: Tensor) -> tuple[Tensor, TokenLayout]:
        """Prompt embeddings, shape (1, n, 64), with projected `features` in the image's place."""
        at = int((ids == IMAGE).nonzero()[0, 0])
        table = self.decoder.get_input_embeddings()
        parts = [table(ids[:at]), self.projector(features), table(ids[at + 1 :])]
        visual = range(at, at + features.shape[0])
        return torch.cat(parts)[None], TokenLayout(visual.stop + len(ids) - at - 1, {"image": visual})


@lru_cache(maxsize=1)
def tiny_llava() -> TinyLlava:
    folder = goldens() / "tiny_llava"
    tower = CLIPVisionModel(CLIPVisionConfig(**json.loads((folder / "clip_config.json").read_text())))
    tower.set_attn_implementation("eager")  # the only one that returns attention
    _load(tower, load_file(folder / "clip.safetensors"))
    weights = load_file(folder / "llava.safetensors")
    marker = "model.mm_projector."
    projector = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 64))
    projector.load_state_dict({k.removeprefix(marker): v for k, v in weights.items() if k.startswith(marker)})
    settings = json.loads((folder / "config.json").read_text())
    decoder = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in settings.items() if not k.startswith("mm_")}))
    _load(decoder, {k: v for k, v in weights.items() if not k.startswith(marker)})
    return TinyLlava(tower.eval(), projector.eval(), decoder.eval())


@lru_cache(maxsize=1)
def llava_model() -> LlavaForConditionalGeneration:
    """The same weights in transformers' own class. Its placeholder is a word that no prompt holds."""
    parts, stored = tiny_llava(), np.load(goldens() / "tiny_llava" / "inputs.npz")
    used = {token for name in stored.files if "ids" in name for token in stored[name].flatten().tolist()}
    config = LlavaConfig(
        vision_config=deepcopy(parts.tower.config),
        text_config=deepcopy(parts.decoder.config),
        image_token_id=next(token for token in range(3, 512) if token not in used),
    )
    model = LlavaForConditionalGeneration(config).eval()
    model.model.vision_tower.load_state_dict(parts.tower.state_dict())
    model.model.language_model.load_state_dict(parts.decoder.model.state_dict())
    model.lm_head.load_state_dict(parts.decoder.lm_head.state_dict())
    for ours, theirs in (("linear_1", parts.projector[0]), ("linear_2", parts.projector[2])):
        getattr(model.model.multi_modal_projector, ours).load_state_dict(theirs.state_dict())
    return model


def _load(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Strict, under the tower's key names of any transformers version."""
    own = module.state_dict()
    prefix = "" if any(key in own for key in weights) else "vision_model."
    module.load_state_dict({key.removeprefix(prefix): value for key, value in weights.items()})


@dataclass(frozen=True)
class Example:
    """One prompt of `inputs.npz`: ids with the image marker, pixels (1, 3, H, W), and what the tower sees; `padded`
    says that its vision score differs from what it saw."""

    ids: Tensor
    pixels: Tensor
    features: Tensor
    vision: VisionScores
    padded: bool = False


@lru_cache(maxsize=4)
def example(number: int, padded: bool = False) -> Example:
    """Sample `number`; `padded` zeroes the vision score of padded patches."""
    stored = np.load(goldens() / "tiny_llava" / "inputs.npz")
    pixels = torch.from_numpy(stored[f"pixel_int8_{number}"]).float() / 32
    features, vision = tiny_llava().look(pixels)
    if padded:
        padding = torch.from_numpy(stored["pad_mask"]).flatten().bool()
        vision = VisionScores(vision.score.masked_fill(padding, 0.0), vision.keys)
    return Example(torch.from_numpy(stored[f"input_ids_{number}"])[0], pixels, features, vision, padded)


@dataclass(frozen=True)
class Run:
    """A pruned prefill and some decoding steps.

    Attributes:
        trace: of the only sample.
        prefill: logits of the tokens that left the last layer, (n, 512).
        decode: logits of the decoding steps, (steps, 512).
        cache_lengths: per step and layer, after the step, (1 + steps, L).
    """

    trace: Any
    prefill: Tensor
    decode: Tensor
    cache_lengths: Tensor


Runner = Callable[[Pruner, Example, list[int]], Run]
"""Prefill under a pruner, then feed the recorded tokens one by one."""


@torch.no_grad()
def run(pruner: Pruner, sample: Example, forced: list[int]) -> Run:
    """On the bare decoder, whose caller embeds the prompt and tells layout and vision scores."""
    host = tiny_llava()
    embeds, layout = host.embed(sample.ids, sample.features[1:])
    given: dict[str, Any] = {"layouts": [layout], "vision": [sample.vision]}
    return _run(host.decoder, pruner, given, forced, inputs_embeds=embeds)


@torch.no_grad()
def run_llava(pruner: Pruner, sample: Example, forced: list[int]) -> Run:
    """On `LlavaForConditionalGeneration`, of which its file in `hosts/` tells everything."""
    model = llava_model()
    at, mark = int((sample.ids == IMAGE).nonzero()[0, 0]), torch.full((NUM_PATCHES,), model.config.image_token_id)
    ids = torch.cat([sample.ids[:at], mark, sample.ids[at + 1 :]])[None]
    given = {"vision": [sample.vision]} if sample.padded else {}
    return _run(model, pruner, given, forced, input_ids=ids, pixel_values=sample.pixels)


def _run(model: Any, pruner: Pruner, given: dict[str, Any], forced: list[int], **inputs: Tensor) -> Run:
    with prune(model, pruner, **given) as trace:
        output = model(**inputs, use_cache=True)
        sample, cache, steps = trace.samples[0], output.past_key_values, list[Tensor]()
        held = lambda: [cache.get_seq_length(layer) for layer in range(len(trace.cache_lengths))]  # noqa: E731
        lengths = [held()]
        for token in forced:
            step = model(input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True)
            steps.append(step.logits[0, -1])
            lengths.append(held())
    return Run(sample, output.logits[0], torch.stack(steps) if steps else torch.empty(0), torch.tensor(lengths))


def settings(case: Path) -> tuple[dict[str, Any], Any]:
    """A golden file's settings and its arrays."""
    stored = np.load(case, allow_pickle=False)
    return json.loads(str(stored["settings"])), stored
