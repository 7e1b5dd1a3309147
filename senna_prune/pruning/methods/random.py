"""Tokens at random."""

from __future__ import annotations

from dataclasses import dataclass

from senna_prune.pruning.pruner import Positions
from senna_prune.pruning.registry import Host, Method
from senna_prune.pruning.schedules import SingleCut
from senna_prune.pruning.scorers import Hash


@dataclass(frozen=True, kw_only=True)
class RandomTokens(Method):
    """Control: a random set of tokens before the decoder.

    The set depends on `seed` and the number of tokens, not on the sample: results repeat in any order and batch; draw
    several seeds.
    """

    seed: int = 0
    positions: Positions = "repacked"

    def schedule(self, host: Host) -> SingleCut:
        return SingleCut(host.budget)

    def scorer(self, host: Host) -> Hash:
        return Hash(self.seed)
