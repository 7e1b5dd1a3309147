"""FasterVLM, "[CLS] Attention is All You Need for Training-Free Visual Token Pruning" (2024)."""

from __future__ import annotations

from dataclasses import dataclass

from senna_prune.pruning.method import Method, Target
from senna_prune.pruning.pruner import Positions
from senna_prune.pruning.schedules import SingleCut
from senna_prune.pruning.scorers import VisionAttention


@dataclass(frozen=True, kw_only=True)
class FasterVLM(Method):
    """Keeps the tokens with the largest CLS attention of the vision tower, before the decoder.

    Six views: the views compete for one budget. Senna's adapter needs all 576 patches of a view, so tokens are
    cut after it, by attention that was mapped through the adapter to its 128 tokens.
    """

    tier = "before the decoder, once"
    positions: Positions = "repacked"

    def schedule(self, target: Target) -> SingleCut:
        return SingleCut(target.budget)

    def scorer(self, target: Target) -> VisionAttention:
        return VisionAttention()
