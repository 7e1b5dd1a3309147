"""Tokens at even spacing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from senna_prune.pruning.interface import Observation
from senna_prune.pruning.method import Host, Method
from senna_prune.pruning.pruner import Positions
from senna_prune.pruning.schedules import SingleCut

GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True, kw_only=True)
class UniformTokens(Method):
    """Control: tokens spread evenly over the visual list, before the decoder."""

    tier = "before the decoder, once"
    positions: Positions = "repacked"

    def schedule(self, host: Host) -> SingleCut:
        return SingleCut(host.budget)

    def scorer(self, host: Host) -> Even:
        return Even()


@dataclass(frozen=True)
class Even:
    """Multiples of the golden ratio modulo 1: the best k are spread evenly over the list for every k."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def score(self, observation: Observation) -> Tensor:
        """See `interface.Scorer`."""
        return (observation.origin.double() * GOLDEN_RATIO).frac().float()
