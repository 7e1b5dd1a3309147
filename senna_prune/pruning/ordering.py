"""Methods that choose tokens one after another, and farthest-point sampling, which two of them use."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from senna_prune.pruning.base import Method, Observation


@dataclass(frozen=True, kw_only=True)
class Ordered(Method):
    """A method that chooses tokens one after another: the first scores 1, the second 1/2, the third 1/3.

    So a view of weight 2 gets about twice as many tokens as without weights. Where no option says what single views
    get, only as many are put in order as will be kept, and the others score 0.
    """

    @abstractmethod
    def order(self, seen: Observation, count: int) -> Tensor:
        """The first `count` tokens, different ones, in the order in which they are chosen, shape (count,), int64."""

    def score(self, seen: Observation) -> Tensor:
        total = seen.origin.shape[0]
        by_view = self.scope == "per_view" or self.min_tokens_per_view > 0 or self.view_weights is not None
        order = self.order(seen, total if by_view else min(seen.keep, total))
        falling = 1.0 / torch.arange(1, order.shape[0] + 1, device=order.device)
        return falling.new_zeros(total).index_copy_(0, order, falling)


@dataclass(frozen=True, kw_only=True)
class FarthestPoints(Ordered):
    """Farthest-point sampling of hidden states by cosine distance, all tokens together or each view on its own."""

    def order(self, seen: Observation, count: int) -> Tensor:
        return farthest_points(seen.hidden, count, seen.views if self.scope == "per_view" else None)


def farthest_points(features: Tensor, count: int, groups: Tensor | None = None) -> Tensor:
    """First the token that is farthest from its nearest neighbour, then always the one farthest from those chosen.

    Ties go to the lower index. A token is never chosen twice (DivPrune's released code repeats some where there are
    fewer different vectors than tokens to choose).

    Args:
        features: shape (n, d).
        count: how many to choose.
        groups: group number per token, shape (n,): distances count within a group only, so that the chosen tokens of
            each group are in the order of a sampling of that group alone.

    Returns:
        Indices in the order of choice, shape (count,), int64.
    """
    distance = 1 - cosines(features)
    distance.fill_diagonal_(math.inf)
    if groups is not None:
        distance.masked_fill_(groups[:, None] != groups, math.inf)
    # No distance exceeds 2: groups of which nothing is chosen come first. Double precision keeps the sum exact.
    nearest = distance.amin(1) + 3
    distance.fill_diagonal_(-math.inf)
    order = torch.empty(count, dtype=torch.long, device=features.device)
    for place in range(count):
        latest = order[place : place + 1]
        torch.argmax(nearest, dim=0, keepdim=True, out=latest)
        torch.minimum(nearest, distance.index_select(0, latest)[0], out=nearest)
    return order


def cosines(features: Tensor) -> Tensor:
    """Cosine similarity of all pairs of rows of (n, d), shape (n, n), float64.

    Exactly symmetric: mutual nearest neighbours are equally far from each other, and which of them is chosen must not
    depend on rounding.
    """
    unit = F.normalize(features.detach().double(), dim=-1)
    product = unit @ unit.T
    return (product + product.T) / 2
