"""WHAT BECOMES of the tokens that are not kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
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


@dataclass(frozen=True)
class ClusterDropped:
    """The best-scored 30 % of the dropped tokens live on as cluster means; a cluster stands in the view of its centre,
    whichever views its members come from."""

    def merge(self, observation: Observation, score: Tensor, keep: Tensor, count: int) -> Selection:
        """See `interface.Merger`."""
        dropped = score.numel() - keep.numel()
        order = score.scatter(0, keep, -torch.inf).argsort(descending=True, stable=True)
        recycled = order[: recycled_count(dropped)]
        means, centres = cluster_and_merge(observation.states(recycled), count)
        return Selection(keep, means, recycled[centres])


def contextual_merge(features: Tensor, keys: Tensor, keep: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """VisionZip: every (n_rest // count)-th of the tokens not kept is a target; the others are averaged into the target
    with the most similar key.

    Args:
        features: what is merged, shape (n, d).
        keys: key projections, mean over heads, shape (n, d_key).
        keep: dominant tokens, ascending, shape (k,).
        count: contextual tokens, at most n - k.

    Returns:
        Target plus mean of its others, shape (count, d), in `features.dtype`, and the targets' indices, shape (count,).
    """
    num_rest = features.shape[0] - keep.shape[0]
    kept = torch.zeros(features.shape[0], dtype=torch.bool, device=features.device).index_fill(0, keep, True)
    rest = kept.int().argsort(stable=True)[:num_rest]
    step = max(num_rest // max(count, 1), 1)
    place = torch.arange(num_rest, device=features.device)
    target = (place % step == 0) & (place < step * count)
    targets = rest[: step * count : step]
    unit = F.normalize(keys.float(), dim=-1)
    nearest = (unit[rest] @ unit[targets].T).argmax(-1)
    member = ((nearest == torch.arange(count, device=features.device)[:, None]) & ~target).float()
    mean = member @ features[rest].float() / member.sum(1, keepdim=True).clamp(min=1)
    return (features[targets].float() + mean).to(features.dtype), targets


@dataclass(frozen=True)
class ContextualMerge:
    """`contextual_merge` on the decoder embeddings, by the vision tower's keys."""

    def merge(self, observation: Observation, score: Tensor, keep: Tensor, count: int) -> Selection:
        """See `interface.Merger`."""
        assert observation.vision is not None and observation.vision.keys is not None
        merged, targets = contextual_merge(observation.hidden, observation.vision.keys, keep, count)
        return Selection(keep, merged, targets)
