"""FastV, "An Image is Worth 1/2 Tokens After Layer 2" (ECCV 2024)."""

from dataclasses import dataclass

from torch import Tensor

from senna_prune.pruning.base import LAST_ATTENTION, LayerCounts, Method, Observation
from senna_prune.pruning.options import option


@dataclass(frozen=True, kw_only=True)
class FastV(Method):
    """One cut before layer `layer` (K of the paper, 2), by the last prompt token's attention in the layer before.

    Six views: one visual list; the last token has seen every view. The number kept follows from the budget (published:
    half of the tokens). Decoding follows the variant that drops tokens, not the one that masks them.
    """

    stage = "inside, once"
    published_layer = 2
    needs = frozenset({LAST_ATTENTION})
    count: int | None = option(None, "fixed number of tokens kept (R of the paper), in place of the budget.", 1)

    @property
    def fixed(self) -> str:
        return "" if self.count is None else "counts are fixed by options"

    def schedule(self, num_visual: int, complexity: float | None) -> tuple[LayerCounts, str]:
        return self.budget.one_cut(num_visual, self.num_layers, self.boundary, self.count)

    def score(self, seen: Observation) -> Tensor:
        return seen.mean_attention
