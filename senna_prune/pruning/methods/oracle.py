"""Tokens that see annotated objects."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from senna_prune.devices import constant
from senna_prune.pruning.base import Observation
from senna_prune.pruning.methods.uniform import UniformTokens
from senna_prune.pruning.options import option


@dataclass(frozen=True, kw_only=True)
class Oracle(UniformTokens):
    """Control: first the tokens that see annotated objects, the nearest object's first, then others at even spacing.

    If it keeps the accuracy with few tokens, choosing is worth the trouble. Only an evaluation knows the objects.
    """

    sign: ClassVar[int] = 1
    nearness: tuple[float, ...] | None = option(
        None,
        "per visual token, above 0 where it sees an object, higher the nearer that is; an evaluation fills it in for "
        "each sample, null is no object.",
    )

    def score(self, seen: Observation) -> Tensor:
        even = super().score(seen)  # in [0, 1)
        if self.nearness is None:
            return even
        nearness = constant(self.nearness, torch.float32, even.device)[seen.origin]
        return torch.where(nearness > 0, self.sign * (1 + nearness), even)
