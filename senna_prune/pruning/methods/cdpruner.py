"""CDPruner, "Beyond Attention or Similarity: Maximizing Conditional Diversity for Token Pruning in MLLMs" (2025)."""

import math
from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from senna_prune.pruning.base import EMBEDDINGS, Observation, Positions
from senna_prune.pruning.options import option
from senna_prune.pruning.ordering import Ordered, cosines

EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class CDPruner(Ordered):
    """Greedy MAP of a determinantal point process: different tokens, weighted by their relevance to the question.

    Six views: one process over the whole visual list and one scale of relevance; with `scope: per_view` a process for
    each view. The number kept follows from the budget (published: 64 or 128 per image).

    Published relevance compares CLIP's image and text embeddings. Senna has neither CLIP's text tower nor its
    projection, so the decoder's input embeddings stand in: mean cosine of a token to the question's words. CLIP's
    cosine enters with a minus, because its patches of objects are the *less* similar ones; nothing says so of
    embeddings, so ours enters with a plus.
    """

    stage = "before the decoder, once"
    relevance: Literal["question", "uniform"] = option(
        "question", "as above, or uniform: all tokens are equally relevant, which leaves diversity alone."
    )
    positions: Positions = "repacked"

    @property
    def needs(self) -> Set[str]:
        return frozenset({EMBEDDINGS} if self.relevance == "question" else ())

    def order(self, seen: Observation, count: int) -> Tensor:
        relevance = torch.ones_like(seen.origin, dtype=torch.double)
        if self.relevance == "question":
            assert seen.text_embeddings is not None
            relevance = scaled(mean_cosine(seen.hidden, seen.text_embeddings))
        kernel = relevance[:, None] * cosines(seen.hidden) * relevance
        if self.scope == "per_view":
            kernel.masked_fill_(seen.views[:, None] != seen.views, 0.0)
        return greedy_map(kernel, count)


def mean_cosine(tokens: Tensor, texts: Tensor) -> Tensor:
    """Cosine similarity of each of (n, d) tokens to (m, d) texts, mean over texts, shape (n,), float64."""
    unit = F.normalize(texts.detach().double(), dim=-1)
    return F.normalize(tokens.detach().double(), dim=-1) @ unit.mean(0)


def scaled(relevance: Tensor) -> Tensor:
    """Relevance of any shape brought to (0, 1] and a little above, as released; all 1 where all are equal."""
    low, high = relevance.aminmax()
    return (relevance - low + EPSILON) / (high - low).clamp(min=EPSILON)


def greedy_map(kernel: Tensor, count: int) -> Tensor:
    """Always the token that raises det L of the chosen ones most; ties go to the lower index.

    Once nothing raises it any more (there are no more different tokens), the released code takes the root of rounding
    noise and loses tokens; ours goes on by relevance.

    Args:
        kernel: L, shape (n, n), symmetric, float64.
        count: how many to choose.

    Returns:
        Indices in the order of choice, shape (count,), int64.
    """
    gain = kernel.diagonal().clone()
    # Gains below this are rounding noise.
    least = 1e-12 * gain
    factor = kernel.new_zeros(count, kernel.shape[0])  # rows of the Cholesky factor
    order = torch.empty(count, dtype=torch.long, device=kernel.device)
    for place in range(count):
        latest = order[place : place + 1]
        torch.argmax(torch.maximum(gain, least), dim=0, keepdim=True, out=latest)
        known = factor[:place]
        row = torch.addmv(kernel.index_select(0, latest)[0], known.T, known.index_select(1, latest)[:, 0], alpha=-1)
        torch.div(row, torch.maximum(gain, least).index_select(0, latest).sqrt(), out=factor[place])
        gain.addcmul_(factor[place], factor[place], value=-1)
        gain.index_fill_(0, latest, -math.inf)
        least.index_fill_(0, latest, -math.inf)
    return order
