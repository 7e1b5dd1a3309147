"""Top-k over the tokens of several cameras: jointly or per camera, with weights and with a minimum per camera.

Nothing here waits for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from senna_prune.devices import constant


def kept_first(
    score: Tensor,
    views: Tensor,
    num_views: int,
    keep: int,
    *,
    per_view: bool = False,
    minimum: int = 0,
    weights: tuple[float, ...] | None = None,
) -> Tensor:
    """All tokens, shape (n,), int64: first the `keep` tokens to keep, then the others by falling score. Ties go to the
    earlier token.

    Args:
        score: shape (n,), higher = keep.
        views: view number per token, shape (n,).
        num_views: number of views.
        keep: 0 <= keep <= n.
        per_view: every view gets the same share of `keep` (times its weight), as far as it has tokens; otherwise all
            views compete.
        minimum: best tokens of each view kept before anything else; at most an equal share of `keep`.
        weights: one factor per view, on its scores, or on its share with `per_view`. A factor above 1 raises negative
            scores too; views of factor 0 come last.
    """
    if keep >= score.numel():
        return torch.arange(score.numel(), device=score.device)
    raw, floor = score, min(minimum, keep // max(num_views, 1))
    factor: Tensor | float = 1.0
    if weights is not None:
        factor = constant(weights, score.dtype, score.device)[views]
        if not per_view:
            # Scores are not shifted to be positive: one very low score would then make the factors outweigh all others.
            score = torch.where(score < 0, score / factor, score * factor).masked_fill(factor == 0, -torch.inf)
    order = score.argsort(descending=True, stable=True)
    if per_view or floor:
        rank = rank_within_view(views, order, num_views)
        turn = (rank + 1) / factor if per_view else torch.ones_like(score)
        turn = turn.masked_fill(rank < floor, 0.0)
        order = order[turn[order].argsort(stable=True)]
    if weights is None and not (per_view or floor):
        return order
    kept = order[:keep]
    others = raw.scatter(0, kept, -torch.inf).argsort(descending=True, stable=True)
    return torch.cat([kept, others[: score.numel() - keep]])


def rank_within_view(views: Tensor, order: Tensor, num_views: int) -> Tensor:
    """Rank of each token among those of its view, in `order`, shape (n,)."""
    ordered = views[order]
    member = ordered[:, None] == torch.arange(num_views, device=views.device)
    place = member.cumsum(0).gather(1, ordered[:, None]).squeeze(1) - 1
    return torch.empty_like(place).scatter_(0, order, place)
