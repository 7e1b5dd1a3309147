"""Clustering of dropped tokens, as AutoPrune and SparseVLM do it: how many, which, and their means."""

from __future__ import annotations

import torch
from torch import Tensor

from senna_prune.pruning.base import Method, Observation, Selection


def merged_count(dropped: int) -> int:
    """Clusters that are formed out of `dropped` tokens: a tenth of `recycled_count`."""
    recycled = recycled_count(dropped)
    return min(recycled // 10 + 1, recycled) if dropped else 0


def recycled_count(dropped: int) -> int:
    """How many of the dropped tokens are clustered."""
    return int(0.3 * dropped) + 1


def cluster_and_merge(tokens: Tensor, clusters: int, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Density-peak clustering of AutoPrune and SparseVLM: means of the clusters and the index of each centre.

    Args:
        tokens: shape (n, d), n > 0.
        clusters: 1 <= clusters <= n.
        noise: shape (n,), in [0, 1), breaks density ties of mutual nearest neighbours. The released code draws it at
            random; ours defaults to the ramp i / n, so that a run can be repeated.

    Returns:
        Means, shape (clusters, d), in `tokens.dtype`, and centres, shape (clusters,), by falling peak height.
    """
    count, width = tokens.shape
    points, ramp = tokens.float(), torch.arange(count, device=tokens.device)
    # Bitwise symmetric, unlike a product expansion.
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") / width**0.5
    near = distance.topk(clusters, dim=-1, largest=False).values
    density = (-near.square().mean(-1)).exp().add(ramp / count if noise is None else noise, alpha=1e-6)
    higher = density[None, :] > density[:, None]
    parent = torch.where(higher, distance, distance.max()).amin(-1)
    centres = (parent * density).topk(clusters).indices
    nearest = distance[centres].argmin(0)
    numbers = ramp[:clusters]
    nearest = nearest.scatter(0, centres, numbers)
    member = (nearest == numbers[:, None]).to(points.dtype)
    means = member @ points / (member.sum(1, keepdim=True) + 1e-6)
    return means.to(tokens.dtype), centres


class Clustered(Method):
    """A method that replaces the best-scored 30 % of the dropped tokens by cluster means. A cluster belongs to the view
    of its centre, whichever views its members come from."""

    def merge(self, seen: Observation, order: Tensor, keep: Tensor, count: int) -> Selection:
        if not count:
            return Selection(keep)
        kept, total = keep.numel(), order.numel()
        recycled = order[kept : kept + recycled_count(total - kept)]
        states = seen.sequence.index_select(0, seen.slots.index_select(0, recycled))
        if count == 1:
            # What `cluster_and_merge` gives, in fewer operations: every token is its own nearest neighbour, so that the
            # ramp alone decides which is densest. The last one is the centre, and all belong to it.
            mean = states.float().sum(0, keepdim=True) / (recycled.numel() + 1e-6)
            return Selection(keep, mean.to(states.dtype), recycled[-1:])
        means, centres = cluster_and_merge(states, count)
        return Selection(keep, means, recycled[centres])
