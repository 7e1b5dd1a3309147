"""WHAT BECOMES of the tokens that are not kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from senna_prune.pruning.interface import Observation, Selection
from senna_prune.pruning.schedules import recycled_count


def cluster_and_merge(tokens: Tensor, clusters: int, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Density-peak clustering of AutoPrune and SparseVLM: means of the clusters and the index of each centre.

    Args:
        tokens: shape (n, d), n > 0.
        clusters: 1 <= clusters <= n.
        noise: shape (n,), in [0, 1), breaks density ties of mutual nearest neighbours. The released code draws it at
            random; ours defaults to the ramp i / n, so that a run repeats.

    Returns:
        Means, shape (clusters, d), in `tokens.dtype`, and centres, shape (clusters,), by falling peak height.
    """
    count, width = tokens.shape
    points = tokens.float()
    if noise is None:
        noise = torch.arange(count, device=tokens.device) / count
    distance = _pairwise_distance(points) / width**0.5
    density = (-distance.topk(clusters, dim=-1, largest=False).values.square().mean(-1)).exp() + noise * 1e-6
    higher = density[None, :] > density[:, None]
    parent = torch.where(higher, distance, distance.max()).amin(-1)
    centres = (parent * density).topk(clusters).indices
    nearest = distance[centres].argmin(0)
    numbers = torch.arange(clusters, device=tokens.device)
    nearest = nearest.scatter(0, centres, numbers)
    member = (nearest == numbers[:, None]).to(points.dtype)
    means = member @ points / (member.sum(1, keepdim=True) + 1e-6)
    return means.to(tokens.dtype), centres


def _pairwise_distance(points: Tensor) -> Tensor:
    """norm(x_i - x_j), shape (n, n): bitwise symmetric, unlike a product expansion, and in blocks, since the broadcast
    difference of a few hundred wide tokens would not fit."""
    block = max(1, 2**24 // points.numel())
    rows = [(part[:, None] - points[None]).square_().sum(-1).sqrt_() for part in points.split(block)]
    return torch.cat(rows)


@dataclass(frozen=True)
class ClusterDropped:
    """The best-scored 30 % of the dropped tokens live on as cluster means; a cluster stands in the view of its centre,
    whichever views its members come from."""

    def merge(self, observation: Observation, score: Tensor, keep: Tensor, count: int) -> Selection:
        """See `interface.Merger`."""
        dropped = score.numel() - keep.numel()
        order = score.scatter(0, keep, -torch.inf).argsort(descending=True, stable=True)
        recycled = order[: recycled_count(dropped)]
        means, centres = cluster_and_merge(observation.hidden[recycled], count)
        return Selection(keep, means, recycled[centres])
