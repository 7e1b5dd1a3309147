"""Qwen3-VL and its mixture of experts: as Qwen2.5-VL, without windows; the engine prunes the features of DeepStack."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from senna_prune.errors import PruningError
from senna_prune.hosts.qwen2_5_vl import Qwen25VLHost


class Qwen3VLHost(Qwen25VLHost):
    """See `Qwen25VLHost`. Every block of the tower attends to the whole image, so the last one tells the scores."""

    def check_geometry(self, scores: bool) -> None:
        if getattr(self.model.config.text_config, "output_router_logits", False):
            problem = "experts are balanced over all tokens of all layers alike"
            raise PruningError(problem, where="output_router_logits", hint="set it to False")

    def scored_attention(self) -> Any:
        return self.model.base_model.visual.blocks[-1].attn

    def in_order(self, tokens: Tensor, grid: Tensor) -> Tensor:
        return tokens
