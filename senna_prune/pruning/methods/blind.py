"""No visual tokens."""

from __future__ import annotations

from dataclasses import dataclass

from senna_prune.pruning.method import Method, Target
from senna_prune.pruning.pruner import Positions
from senna_prune.pruning.schedules import Control
from senna_prune.pruning.scorers import Nothing


@dataclass(frozen=True, kw_only=True)
class Blind(Method):
    """Control: the question without the cameras; its accuracy shows how much the text alone tells."""

    tier = "before the decoder, once"
    positions: Positions = "repacked"

    def schedule(self, target: Target) -> Control:
        return Control(target.budget, blind=True)

    def scorer(self, target: Target) -> Nothing:
        return Nothing()
