"""Tokens at even spacing."""

from __future__ import annotations

from dataclasses import dataclass

from senna_prune.pruning.pruner import Positions
from senna_prune.pruning.registry import Host, Method
from senna_prune.pruning.schedules import SingleCut
from senna_prune.pruning.scorers import Even


@dataclass(frozen=True, kw_only=True)
class UniformTokens(Method):
    """Control: tokens spread evenly over the visual list, before the decoder."""

    positions: Positions = "repacked"

    def schedule(self, host: Host) -> SingleCut:
        return SingleCut(host.budget)

    def scorer(self, host: Host) -> Even:
        return Even()
