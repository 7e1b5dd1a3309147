"""DivPrune, "Diversity-based Visual Token Pruning for Large Multimodal Models" (CVPR 2025)."""

from __future__ import annotations

from dataclasses import dataclass

from senna_prune.pruning.method import Method, Target
from senna_prune.pruning.pruner import Positions
from senna_prune.pruning.schedules import SingleCut
from senna_prune.pruning.scorers import FarthestPoint


@dataclass(frozen=True, kw_only=True)
class DivPrune(Method):
    """Farthest-point sampling by cosine distance of the decoder's input embeddings, before the decoder.

    Six views: one visual list, so that what two cameras both see is kept once; with `scope: per_view` each camera is
    sampled on its own. The number kept follows from the budget (published: 9.8 %). Distances are computed in double
    precision (published: in the model's type; bfloat16 changes half of the tokens).
    """

    tier = "before the decoder, once"
    positions: Positions = "repacked"

    def schedule(self, target: Target) -> SingleCut:
        return SingleCut(target.budget)

    def scorer(self, target: Target) -> FarthestPoint:
        return FarthestPoint(self.ranks_by_view, by_view=self.scope == "per_view")
