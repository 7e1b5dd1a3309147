"""FastV, "An Image is Worth 1/2 Tokens After Layer 2" (ECCV 2024)."""

from __future__ import annotations

from dataclasses import dataclass

from senna_prune.errors import PruningError
from senna_prune.pruning.interface import LAST_ATTENTION
from senna_prune.pruning.method import Host, Method
from senna_prune.pruning.schedules import SingleCut
from senna_prune.pruning.scorers import MeanAttention


@dataclass(frozen=True, kw_only=True)
class FastV(Method):
    """One cut before layer `layer`, by the last prompt token's attention in the layer before.

    Six views: one visual list; the last token has seen every view. The number kept follows from the budget (published:
    half of the tokens). Decoding follows the variant that drops tokens, not the one that masks them.

    Attributes:
        layer: K of the paper, counted from 0; by default the published 2 of 32, in proportion at other depths.
        count: fixed number of tokens kept (R of the paper), in place of the budget.
    """

    tier = "inside, once"
    layer: int | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.layer is None or self.layer >= 1, "layer", "a layer from 1 on")
        self.require(self.count is None or self.count >= 1, "count", "1 or more")

    def schedule(self, host: Host) -> SingleCut:
        if host.num_layers == 1:
            raise PruningError(
                "a decoder of one layer has no attention to cut by",
                where="method fastv",
                hint="take a method that cuts before the decoder",
            )
        layer = max(round(host.num_layers / 16), 1) if self.layer is None else self.layer
        self.require(layer < host.num_layers, "layer", f"a layer below {host.num_layers}")
        return SingleCut(host.budget, boundary=layer, count=self.count)

    def scorer(self, host: Host) -> MeanAttention:
        return MeanAttention(LAST_ATTENTION)
