"""Tokens at random."""

from dataclasses import dataclass

from torch import Tensor

from senna_prune.pruning.base import Method, Observation, Positions
from senna_prune.pruning.options import option


@dataclass(frozen=True, kw_only=True)
class RandomTokens(Method):
    """Control: a random set of tokens before the decoder.

    The set depends on `seed` and the number of tokens, not on the sample, so that results are the same in any order and
    batch. Use several seeds.
    """

    stage = "before the decoder, once"
    seed: int = option(0, "number of the draw, 0 or more.", least=0)
    positions: Positions = "repacked"

    def score(self, seen: Observation) -> Tensor:
        # A hash of seed and token alone: no generator, no state, the same in any batch.
        bits = (seen.origin + (self.seed * 0x9E3779B9 & 0xFFFFFFFF)) & 0xFFFFFFFF
        for _ in range(2):
            bits = ((bits ^ (bits >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
        return (bits ^ (bits >> 16)).double().div(2**32).float()
