"""No pruning."""

from __future__ import annotations

from dataclasses import dataclass

from senna_prune.pruning.method import Method, Target
from senna_prune.pruning.schedules import Control
from senna_prune.pruning.scorers import Nothing


@dataclass(frozen=True, kw_only=True)
class NoPruning(Method):
    """Control: every visual token enters every layer; bit-identical to the model without a pruner."""

    tier = "nowhere"

    def schedule(self, target: Target) -> Control:
        return Control(target.budget)

    def scorer(self, target: Target) -> Nothing:
        return Nothing()
