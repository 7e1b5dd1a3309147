"""DivPrune, "Diversity-based Visual Token Pruning for Large Multimodal Models" (CVPR 2025)."""

from dataclasses import dataclass

from senna_prune.pruning.base import Positions
from senna_prune.pruning.ordering import FarthestPoints


@dataclass(frozen=True, kw_only=True)
class DivPrune(FarthestPoints):
    """Farthest-point sampling by cosine distance of the decoder's input embeddings, before the decoder.

    Six views: one visual list, so that what two cameras both see is kept once; with `scope: per_view` each camera is
    sampled on its own. The number kept follows from the budget (published: 9.8 %). Distances are computed in double
    precision (published: in the model's type; bfloat16 changes half of the tokens).
    """

    stage = "before the decoder, once"
    positions: Positions = "repacked"
