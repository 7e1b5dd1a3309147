"""No visual tokens."""

from dataclasses import dataclass

from senna_prune.pruning.base import LayerCounts, Positions
from senna_prune.pruning.methods.none import NoPruning


@dataclass(frozen=True, kw_only=True)
class Blind(NoPruning):
    """Control: the question without the cameras; its accuracy shows how much the text alone tells."""

    stage = "before the decoder, once"
    positions: Positions = "repacked"

    def schedule(self, num_visual: int, complexity: float | None) -> tuple[LayerCounts, str]:
        return LayerCounts.of_cuts(0, self.num_layers), "keeps none"
