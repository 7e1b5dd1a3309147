"""ToMe, "Token Merging: Your ViT But Faster" (ICLR 2023)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from senna_prune.pruning.base import Observation, Positions, Selection
from senna_prune.pruning.ordering import Ordered
from senna_prune.pruning.selection import rank_within_view


@dataclass(frozen=True, kw_only=True)
class ToMe(Ordered):
    """Bipartite soft matching: every second token of a view is merged into the most similar of the others.

    Six views: published inside the vision transformer, in every layer, by the keys there. Senna's adapter needs all
    patches of a view, so its tokens are merged behind the adapter, before the decoder, by their embeddings, in rounds
    of at most half of them; tokens of different views never merge.

    The budget says where the last round stops: the most similar pairs of all views merge first; with `scope: per_view`
    each view loses the same number. A merged token is the plain mean of all that went into it and stands where the one
    stood that took the others in. Attention is not raised by a token's size (published: inside the vision
    transformer): the decoder stays as it is.
    """

    stage = "before the decoder, once"
    positions: Positions = "repacked"

    def order(self, seen: Observation, count: int) -> Tensor:
        # The tokens that matching would merge last come first.
        time, _, _ = merge_rounds(seen.hidden, seen.views, seen.num_views)
        return time.argsort(descending=True, stable=True)[:count]

    def merge(self, seen: Observation, order: Tensor, keep: Tensor, count: int) -> Selection:
        _, into, _ = merge_rounds(seen.hidden, seen.views, seen.num_views)
        return Selection(keep, states=mean_of_merged(seen.hidden, destinations(into, keep), keep))


def merge_rounds(
    metric: Tensor, views: Tensor, num_views: int, limits: Sequence[int] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Rounds of matching; between them the metric of merged tokens is their plain mean, whatever their sizes.

    Args:
        metric: shape (n, d).
        views: view number of each token, ascending, shape (n,).
        num_views: number of views.
        limits: tokens that each view may lose in each round; by default half of them, until one is left.

    Returns:
        When each token is merged into another, infinite where it is not: later is larger, and earlier in a round are
        the more similar ones, shape (n,), float64. Into which token, shape (n,); itself where into none. And the
        tokens that are left in their last order, views one after the other, tokens that are gone behind them.
    """
    count = metric.shape[0]
    halving = limits is None
    metric, token = metric.float(), torch.arange(count, device=metric.device)
    time, into = torch.full_like(token, math.inf, dtype=torch.double), token.clone()
    for number, limit in enumerate([count] * (count - 1).bit_length() if limits is None else limits):
        place = rank_within_view(views, torch.arange(token.shape[0], device=token.device), num_views + 1)
        score, partner = match(metric, views, place, num_views)
        gone = lost(score, views, num_views, limit)
        # Scores are in [-1, 1]: rounds do not overlap.
        time.index_copy_(0, token, torch.where(gone, 4.0 * number - score, time[token]))
        into.index_copy_(0, token, torch.where(gone, token[partner], into[token]))
        member = ((partner == torch.arange(token.shape[0], device=token.device)[:, None]) & gone).float()
        metric = (metric + member @ metric) / (1 + member.sum(1, keepdim=True))
        # Unmerged tokens by falling score, then those merged into.
        order = score.argsort(descending=True, stable=True)
        views = views.masked_fill(gone, num_views)
        order = order[views[order].argsort(stable=True)]
        # At most so many are left, without asking the device how many they are.
        size = min(token.shape[0], (token.shape[0] + num_views) // 2) if halving else token.shape[0]
        metric, views, token = metric[order[:size]], views[order[:size]], token[order[:size]]
    return time, into, token


def match(metric: Tensor, views: Tensor, place: Tensor, num_views: int) -> tuple[Tensor, Tensor]:
    """For every token at an even place of its view the most similar one at an odd place: cosine and index.

    Args:
        metric: shape (n, d).
        views: view of each token, shape (n,); `num_views` marks one that is out.
        place: place of each token in its view, shape (n,).

    Returns:
        Both of shape (n,); the cosine is -inf where there is no such pair.
    """
    unit, even = F.normalize(metric, dim=-1), place % 2 == 0
    pair = (views[:, None] == views) & (even & (views < num_views))[:, None] & ~even
    best = (unit @ unit.T).masked_fill_(~pair, -math.inf).max(1)
    return best.values, best.indices


def lost(score: Tensor, views: Tensor, num_views: int, limit: int) -> Tensor:
    """Which tokens merge into another: in each view those with the best scores, half of it or `limit`, (n,), bool."""
    sizes = (views == torch.arange(num_views + 1, device=views.device)[:, None]).sum(1)
    rank = rank_within_view(views, score.argsort(descending=True, stable=True), num_views + 1)
    return (rank < (sizes // 2).clamp(max=limit)[views]) & (views < num_views)


def destinations(into: Tensor, keep: Tensor) -> Tensor:
    """Where each token ends up: `into` followed until a token of `keep`, shape (n,)."""
    own = torch.arange(into.shape[0], device=into.device)
    kept = torch.zeros_like(into, dtype=torch.bool).index_fill_(0, keep, True)
    target = torch.where(kept, own, into)
    # Each step doubles how far it looks; a chain is no longer than there are rounds.
    for _ in range((into.shape[0] - 1).bit_length().bit_length()):
        target = target[target]
    return target


def mean_of_merged(hidden: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    """Mean of all tokens that end up at each of `keep`, shape (k, d), in `hidden.dtype`."""
    member = (target == keep[:, None]).float()
    return (member @ hidden.float() / member.sum(1, keepdim=True)).to(hidden.dtype)
