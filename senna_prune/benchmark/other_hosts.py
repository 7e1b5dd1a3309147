"""Hosts beside Senna to be timed: random decoders of their shape behind one encoded image."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

from senna_prune.benchmark.models import TimedModel, decoder_settings, made_on, random_trie
from senna_prune.benchmark.settings import TimedModelConfig, require_memory
from senna_prune.cost import ModelShape
from senna_prune.engine import prune
from senna_prune.hosts.host import VISION_SCORES, find_host
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.base import VisionScores

IMAGE = 3
"""Placeholder; random text has greater numbers."""
SHARED_KEYS = 4
"""Query heads that share a key in Qwen2.5-VL's shape."""


class TimedHost(TimedModel):
    """One prompt with one image, whose features are the tower's output with evidence."""

    @cached_property
    def layout(self) -> TokenLayout:
        host = find_host(self.model)
        assert host is not None
        return host.layouts([self.input_ids.cpu()], self.features)[0]

    def inputs(self, batch: int = 1) -> dict[str, Any]:
        tokens, evidence = self.features.pooler_output[0], self.features[VISION_SCORES]
        outputs = BaseModelOutputWithPooling(pooler_output=cast(Any, [tokens] * batch))
        outputs[VISION_SCORES] = VisionScores(evidence.score.repeat(batch), evidence.keys.repeat(batch, 1))
        ids = self.input_ids.expand(batch, -1)
        inputs = {"input_ids": ids, "mm_encoder_outputs": {"image": outputs}}
        if self.model.config.model_type == "qwen2_5_vl":
            rows, columns = grid_of(len(tokens))
            sizes = torch.tensor([[1, 2 * rows, 2 * columns]] * batch, device=self.device)
            inputs |= {"image_grid_thw": sizes, "mm_token_type_ids": (ids == IMAGE).int()}
        return inputs

    def prompt(self, batch: int = 1) -> dict[str, Any]:
        return self.inputs(batch)

    def context(self, pruner: Any, batch: int = 1, compiled: bool = False) -> Any:
        return prune(self.model, pruner)

    def shape(self, dtype: torch.dtype) -> ModelShape:
        text = self.model.config.get_text_config()
        head_size = text.hidden_size // text.num_attention_heads
        return ModelShape(
            views=1,
            patches=0,
            patch_values=0,
            vision_width=0,
            vision_mlp=0,
            vision_layers=0,
            view_tokens=self.layout.num_visual,
            width=text.hidden_size,
            mlp=text.intermediate_size,
            layers=text.num_hidden_layers,
            vocabulary=text.vocab_size,
            query_width=text.hidden_size,
            key_width=text.num_key_value_heads * head_size,
            value_bytes=dtype.itemsize,
        )


def random_host(host: TimedModelConfig, device: torch.device, dtype: torch.dtype) -> TimedHost:
    """Random weights of the stated decoder, a tower of one layer that never runs, and one prompt.

    Raises:
        ConfigError: random weights of that shape do not fit into the device's memory.
    """
    text = decoder_settings(host) | {"bos_token_id": 1, "eos_token_id": 2}
    require_memory(host.parameters * dtype.itemsize, device)
    model_class: Any
    config: Any
    if host.kind == "llava_next":
        tower = {"model_type": "clip_vision_model", "num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64}
        model_class = LlavaNextForConditionalGeneration
        config = LlavaNextConfig(
            vision_config=tower | {"num_attention_heads": 1},
            text_config={"model_type": "llama", **text},
            image_token_index=IMAGE,
        )
    else:
        pairs = host.hidden // host.heads // 2
        # Time, height and width share the pairs of a head as 2 : 3 : 3.
        sections = [pairs - 2 * (3 * pairs // 8), 3 * pairs // 8, 3 * pairs // 8]
        text["num_key_value_heads"] = max(host.heads // SHARED_KEYS, 1)
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}
        tower = {"depth": 1, "hidden_size": 64, "intermediate_size": 64, "num_heads": 1, "out_hidden_size": host.hidden}
        model_class = Qwen2_5_VLForConditionalGeneration
        marks: dict[str, Any] = {"image_token_id": IMAGE, "video_token_id": host.vocabulary - 1}
        config = Qwen2_5_VLConfig(vision_config=tower, text_config=text, **marks)
    model = made_on(device, dtype, lambda: model_class._from_config(config, attn_implementation="sdpa")).eval()
    tokens = (0.02 * torch.randn(host.view_tokens, host.hidden, device=device)).to(dtype)
    features = BaseModelOutputWithPooling(pooler_output=cast(Any, [tokens]))
    scores, keys = torch.rand(len(tokens), device=device), torch.randn(len(tokens), 64, device=device)
    features[VISION_SCORES] = VisionScores(scores, keys)
    ids = _prompt(host).to(device)
    return TimedHost(model, ids, None, features, random_trie(host.vocabulary).to(device), [])


def grid_of(tokens: int) -> tuple[int, int]:
    """Rows and columns of an image of so many tokens, as square as can be."""
    rows = next(rows for rows in range(math.isqrt(tokens), 0, -1) if tokens % rows == 0)
    return rows, tokens // rows


def _prompt(host: TimedModelConfig) -> Tensor:
    """Random text, half of it behind the image, (length,)."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(IMAGE + 1, host.vocabulary - 1, (host.text_tokens,), generator=generator)
    head = host.text_tokens // 2
    return torch.cat([text[:head], torch.full((host.view_tokens,), IMAGE), text[head:]])
