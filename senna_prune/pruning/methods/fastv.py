"""FastV, "An Image is Worth 1/2 Tokens After Layer 2" (ECCV 2024)."""

from __future__ import annotations

from dataclasses import dataclass

from senna_prune.pruning.base import LAST_ATTENTION
from senna_prune.pruning.method import OneCutInside, Target
from senna_prune.pruning.schedules import SingleCut
from senna_prune.pruning.scorers import MeanAttention


@dataclass(frozen=True, kw_only=True)
class FastV(OneCutInside):
    """One cut before layer `layer` (K of the paper, 2), by the last prompt token's attention in the layer before.

    Six views: one visual list; the last token has seen every view. The number kept follows from the budget (published:
    half of the tokens). Decoding follows the variant that drops tokens, not the one that masks them.

    Attributes:
        count: fixed number of tokens kept (R of the paper), in place of the budget.
    """

    published_layer = 2
    count: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.count is None or self.count >= 1, "count", "1 or more")

    def schedule(self, target: Target) -> SingleCut:
        return SingleCut(target.budget, boundary=self.boundary(target), count=self.count)

    def scorer(self, target: Target) -> MeanAttention:
        return MeanAttention(LAST_ATTENTION)
