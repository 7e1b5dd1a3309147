"""FasterVLM, "[CLS] Attention is All You Need for Training-Free Visual Token Pruning" (2024)."""

from dataclasses import dataclass

from torch import Tensor

from senna_prune.pruning.base import VISION, Method, Observation, Positions


@dataclass(frozen=True, kw_only=True)
class FasterVLM(Method):
    """Keeps the tokens with the largest CLS attention of the vision tower, before the decoder.

    Six views: the views compete for one budget. Senna's adapter needs all 576 patches of a view, so tokens are
    cut after it, by attention that was mapped through the adapter to its 128 tokens.
    """

    stage = "before the decoder, once"
    needs = frozenset({VISION})
    positions: Positions = "repacked"

    def score(self, seen: Observation) -> Tensor:
        return seen.vision_score
