"""Scores that several methods use: which visual tokens to keep. Shape (n,), float32, higher = keep."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from senna_prune.pruning.base import LAST_ATTENTION, NEXT_ATTENTION, TEXT_ATTENTION, VISION, Observation


@dataclass(frozen=True)
class Nothing:
    """For methods that never choose between tokens."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def score(self, observation: Observation) -> Tensor:
        """See `base.Scorer`."""
        return torch.zeros_like(observation.origin, dtype=torch.float32)


@dataclass(frozen=True)
class VisionAttention:
    """Attention of the vision tower's class token (AutoPrune, FasterVLM, VisionZip); merged tokens get 0."""

    needs = frozenset({VISION})

    def score(self, observation: Observation) -> Tensor:
        """See `base.Scorer`."""
        assert observation.vision is not None
        score = observation.vision.score.float()
        return torch.where(observation.origin >= 0, score[observation.origin.clamp(min=0)], score.new_zeros(()))


@dataclass(frozen=True)
class MeanAttention:
    """Attention rows averaged over heads and queries.

    Attributes:
        source: which rows: `TEXT_ATTENTION`, `LAST_ATTENTION` (FastV) or `NEXT_ATTENTION` (PyramidDrop).
    """

    source: str = TEXT_ATTENTION

    @property
    def needs(self) -> frozenset[str]:
        """See `base.Scorer`."""
        assert self.source in (TEXT_ATTENTION, LAST_ATTENTION, NEXT_ATTENTION)
        return frozenset({self.source})

    def score(self, observation: Observation) -> Tensor:
        """See `base.Scorer`."""
        return observation.mean_attention()


@dataclass(frozen=True)
class Order(ABC):
    """Scores for methods that choose tokens one after another: the first scores 1, the second 1/2, the third 1/3.

    So a view of weight 2 gets about twice as many tokens as without weights.

    Attributes:
        whole: put all tokens in order; otherwise only as many as will be kept, and the others score 0.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    whole: bool = True

    @abstractmethod
    def order(self, observation: Observation, count: int) -> Tensor:
        """The first `count` tokens, different ones, in the order in which they are chosen, shape (count,), int64."""

    def score(self, observation: Observation) -> Tensor:
        """See `base.Scorer`."""
        total = observation.origin.shape[0]
        order = self.order(observation, total if self.whole else min(observation.keep, total))
        falling = 1.0 / torch.arange(1, order.shape[0] + 1, device=order.device)
        return falling.new_zeros(total).index_copy_(0, order, falling)


@dataclass(frozen=True)
class FarthestPoint(Order):
    """Farthest-point sampling of hidden states (DivPrune, Prune2Drive).

    Attributes:
        by_view: every view on its own; otherwise all tokens together.
    """

    by_view: bool = False

    def order(self, observation: Observation, count: int) -> Tensor:
        """See `Order`."""
        return farthest_points(observation.hidden, count, observation.views if self.by_view else None)


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
