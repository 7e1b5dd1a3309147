"""Tokens at even spacing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from senna_prune.pruning.base import Observation
from senna_prune.pruning.method import Method, Target
from senna_prune.pruning.pruner import Positions
from senna_prune.pruning.schedules import SingleCut

GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True, kw_only=True)
class UniformTokens(Method):
    """Control: tokens spread evenly over the visual list, before the decoder."""

    tier = "before the decoder, once"
    positions: Positions = "repacked"

    def schedule(self, target: Target) -> SingleCut:
        return SingleCut(target.budget)

    def scorer(self, target: Target) -> Even:
        return Even()


@dataclass(frozen=True)
class Even:
    """Multiples of the golden ratio modulo 1: the best k are spread evenly over the list for every k."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def score(self, observation: Observation) -> Tensor:
        """See `base.Scorer`."""
        return (observation.origin.double() * GOLDEN_RATIO).frac().float()
