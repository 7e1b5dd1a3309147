"""Tokens at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from senna_prune.pruning.base import Observation
from senna_prune.pruning.method import Method, Target
from senna_prune.pruning.pruner import Positions
from senna_prune.pruning.schedules import SingleCut


@dataclass(frozen=True, kw_only=True)
class RandomTokens(Method):
    """Control: a random set of tokens before the decoder.

    The set depends on `seed` and the number of tokens, not on the sample, so that results are the same in any order and
    batch. Use several seeds.

    Attributes:
        seed: number of the draw, 0 or more.
    """

    tier = "before the decoder, once"
    seed: int = 0
    positions: Positions = "repacked"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.seed >= 0, "seed", "0 or more")

    def schedule(self, target: Target) -> SingleCut:
        return SingleCut(target.budget)

    def scorer(self, target: Target) -> Hash:
        return Hash(self.seed)


@dataclass(frozen=True)
class Hash:
    """A pseudo-random score computed from seed and token alone: no generator, no state, the same in any batch."""

    seed: int = 0
    needs: ClassVar[frozenset[str]] = frozenset()

    def score(self, observation: Observation) -> Tensor:
        """See `base.Scorer`."""
        bits = (observation.origin + (self.seed * 0x9E3779B9 & 0xFFFFFFFF)) & 0xFFFFFFFF
        for _ in range(2):
            bits = ((bits ^ (bits >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
        return (bits ^ (bits >> 16)).double().div(2**32).float()
