"""Random observations for policy tests: no model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from senna_prune.pruning import Budget, Method, make_pruner, method_names
from senna_prune.pruning.base import Observation, VisionScores

BUDGETED = tuple(name for name in method_names() if name not in ("none", "blind"))
"""Every registered method that spends a budget; a new one is tested without being named."""


def pruner(name: str, budget: Budget | float, *, layers: int = 32, heads: int = 4, **options: object) -> Method:
    budget = budget if isinstance(budget, Budget) else Budget.retention(budget)
    return make_pruner(name, budget, num_layers=layers, num_heads=heads, num_visual=768, **options)


def scene(
    views: Sequence[int], *, layer: int = 1, layers: int = 32, queries: int = 5, heads: int = 4, seed: int = 0
) -> Observation:
    """Everything a policy can ask for, on views of the given numbers of tokens; the question follows them."""
    draw = torch.Generator().manual_seed(seed)
    count = sum(views)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    attention = (2 * normal(heads, queries, count + queries + 2)).softmax(-1)[..., : count + queries]
    return Observation(
        layer=layer,
        num_layers=layers,
        origin=torch.arange(count),
        views=torch.repeat_interleave(torch.arange(len(views)), torch.tensor(views)),
        num_views=len(views),
        slots=torch.arange(count),
        sequence=normal(count + queries, 16),
        queries=queries,
        rows=attention,
        vision=VisionScores(normal(count).softmax(-1), normal(count, 8)),
        text_embeddings=normal(queries, 16),
        visual_embeddings=normal(count, 16),
        rope_product=2 + normal(queries, count).abs(),
        sequence_keys=normal(2, count + queries, 8),
        normed=normal(count + queries, 16),
    )
