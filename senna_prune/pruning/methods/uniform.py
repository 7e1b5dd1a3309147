"""Tokens at even spacing."""

from dataclasses import dataclass

from torch import Tensor

from senna_prune.pruning.base import Method, Observation, Positions

GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True, kw_only=True)
class UniformTokens(Method):
    """Control: tokens spread evenly over the visual list, before the decoder."""

    stage = "before the decoder, once"
    positions: Positions = "repacked"

    def score(self, seen: Observation) -> Tensor:
        # Multiples of the golden ratio modulo 1: the best k are spread evenly over the list for every k.
        return (seen.origin.double() * GOLDEN_RATIO).frac().float()
