"""One number per sample that says how tightly the question binds to the scene; high = easy (prune early)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from senna_prune.pruning.interface import EMBEDDINGS, TEXT_ATTENTION, Observation


def mutual_information(attention: Tensor, columns: Tensor | None = None) -> Tensor:
    """The released estimate per head, shape (heads,), float32, in bits.

    Eqs. 3 and 4 with base-2 logarithms, on rows that are not renormalised over the visual tokens.

    Args:
        attention: softmax attention from text rows to visual columns, shape (heads, queries, n).
        columns: which of the n columns are visual, if not all; cheaper than gathering them first.
    """
    rows, queries = attention.float(), attention.shape[1]
    # The joint distribution is rows / queries; dividing sums instead of all of them saves a pass over the attention.
    product = rows.sum(1, keepdim=True) / queries**2
    terms = (rows / ((product + 1e-6) * queries)).clamp_(min=1e-6).log2_().mul_(rows).sum(1)
    return (terms if columns is None else terms.index_select(-1, columns)).sum(-1) / queries


def mutual_information_as_printed(attention: Tensor) -> Tensor:
    """Eqs. 3 and 4 per head, shape (heads,), float32, in nats; rows are distributions over the visual tokens.

    Args:
        attention: softmax attention from text rows to visual columns, shape (heads, queries, n).
    """
    conditional = attention.float()
    conditional = conditional / conditional.sum(-1, keepdim=True).clamp(min=1e-12)
    marginal = conditional.mean(1, keepdim=True)
    ratio = torch.where(conditional > 0, conditional / marginal.clamp(min=1e-12), 1.0)
    return (conditional * ratio.log()).sum((1, 2)) / attention.shape[1]


@dataclass(frozen=True)
class MutualInformation:
    """Head sum of `mutual_information`, as released.

    Attributes:
        layer: decoder layer whose attention is read.
        scale: factor for another number of heads.
    """

    layer: int = 1
    scale: float = 1.0
    needs = frozenset({TEXT_ATTENTION})

    def measure(self, observation: Observation) -> Tensor:
        """See `interface.Complexity`."""
        assert observation.rows is not None
        return mutual_information(observation.rows, observation.slots).sum() * self.scale


@dataclass(frozen=True)
class PrintedMutualInformation:
    """Head mean of `mutual_information_as_printed`: the paper names no head, and the mean depends on no number
    of heads."""

    layer: int = 1
    needs = frozenset({TEXT_ATTENTION})

    def measure(self, observation: Observation) -> Tensor:
        """See `interface.Complexity`."""
        return mutual_information_as_printed(observation.attention).mean()


@dataclass(frozen=True)
class AttentionMass:
    """Attention that a text row spends on visual tokens, mean over heads and rows, in [0, 1] (Table 4a, "average
    attention"; how the authors scale it is not published)."""

    layer: int = 1
    needs = frozenset({TEXT_ATTENTION})

    def measure(self, observation: Observation) -> Tensor:
        """See `interface.Complexity`."""
        return observation.attention.float().sum(-1).mean()


@dataclass(frozen=True)
class CosineSimilarity:
    """Mean cosine between text and visual input embeddings, in [-1, 1] (Table 4a; scaling not published)."""

    layer: int = 1
    needs = frozenset({EMBEDDINGS})

    def measure(self, observation: Observation) -> Tensor:
        """See `interface.Complexity`."""
        assert observation.text_embeddings is not None and observation.visual_embeddings is not None
        text = F.normalize(observation.text_embeddings.float(), dim=-1).mean(0)
        visual = F.normalize(observation.visual_embeddings.float(), dim=-1).mean(0)
        return text @ visual
