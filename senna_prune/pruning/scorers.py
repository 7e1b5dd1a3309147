"""WHICH visual tokens matter. Scores have shape (n,), float32, higher = keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from senna_prune.pruning.complexity import mutual_information
from senna_prune.pruning.interface import (
    EMBEDDINGS,
    LAST_ATTENTION,
    NEXT_ATTENTION,
    ROPE_PRODUCT,
    TEXT_ATTENTION,
    VISION,
    Observation,
    gather_vision,
)

GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True)
class Nothing:
    """For methods that never choose between tokens."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def score(self, observation: Observation) -> Tensor:
        """See `interface.Scorer`."""
        return torch.zeros_like(observation.origin, dtype=torch.float32)


@dataclass(frozen=True)
class Hash:
    """Random, but a function of seed and token alone: no generator, no state, the same in any batch."""

    seed: int = 0
    needs: ClassVar[frozenset[str]] = frozenset()

    def score(self, observation: Observation) -> Tensor:
        """See `interface.Scorer`."""
        bits = (observation.origin + (self.seed * 0x9E3779B9 & 0xFFFFFFFF)) & 0xFFFFFFFF
        for _ in range(2):
            bits = ((bits ^ (bits >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
        return (bits ^ (bits >> 16)).double().div(2**32).float()


@dataclass(frozen=True)
class Even:
    """Multiples of the golden ratio modulo 1: the best k are spread evenly over the list for every k."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def score(self, observation: Observation) -> Tensor:
        """See `interface.Scorer`."""
        return (observation.origin.double() * GOLDEN_RATIO).frac().float()


@dataclass(frozen=True)
class VisionAttention:
    """Attention of the vision tower's class token (FasterVLM, VisionZip)."""

    needs = frozenset({VISION})

    def score(self, observation: Observation) -> Tensor:
        """See `interface.Scorer`."""
        return gather_vision(observation)


@dataclass(frozen=True)
class MeanAttention:
    """Attention rows averaged over heads and queries.

    Attributes:
        source: which rows: `TEXT_ATTENTION`, `LAST_ATTENTION` (FastV) or `NEXT_ATTENTION` (PyramidDrop).
    """

    source: str = TEXT_ATTENTION

    @property
    def needs(self) -> frozenset[str]:
        """See `interface.Scorer`."""
        assert self.source in (TEXT_ATTENTION, LAST_ATTENTION, NEXT_ATTENTION)
        return frozenset({self.source})

    def score(self, observation: Observation) -> Tensor:
        """See `interface.Scorer`."""
        return observation.mean_attention()


@dataclass(frozen=True)
class AutoPruneScore:
    """Behind layer 0, the vision score plus 0.3 w times the mean text attention, w = mutual information per text row;
    behind later layers the mean text attention alone.

    Attributes:
        head_scale: factor on the head-summed mutual information.
    """

    head_scale: float = 1.0
    needs = frozenset({TEXT_ATTENTION, VISION})

    def score(self, observation: Observation) -> Tensor:
        """See `interface.Scorer`."""
        mean = observation.mean_attention()
        if observation.layer > 1:
            return mean
        assert observation.rows is not None
        information = mutual_information(observation.rows, observation.slots).sum()
        weight = information * self.head_scale / observation.rows.shape[1]
        return 0.3 * weight * mean + gather_vision(observation)


@dataclass(frozen=True)
class RaterAttention:
    """SparseVLM: attention of the text tokens that the image itself points at.

    Raters are the text tokens whose share of softmax(visual @ text^T) over text, averaged over the visual tokens, is
    above the mean.

    Attributes:
        heads: None averages over heads (v1). A number (v2) divides the probabilities by the RoPE product of two
            all-ones vectors and averages over the heads with the largest sum from raters to visual tokens.
    """

    heads: int | None = None

    @property
    def needs(self) -> frozenset[str]:
        """See `interface.Scorer`."""
        return frozenset({TEXT_ATTENTION, EMBEDDINGS} | ({ROPE_PRODUCT} if self.heads else set()))

    def score(self, observation: Observation) -> Tensor:
        """See `interface.Scorer`."""
        attention = observation.attention
        assert observation.text_embeddings is not None and observation.visual_embeddings is not None
        affinity = observation.visual_embeddings.float() @ observation.text_embeddings.float().T
        share = affinity.softmax(-1).mean(0)
        above = share > share.mean()
        rater = (above | ~above.any()).float()  # a single text token is not above its own mean
        if self.heads:
            assert observation.rope_product is not None
            attention = attention / observation.rope_product
            strength = (attention * rater[:, None]).sum((1, 2))
            attention = attention[strength.topk(min(self.heads, strength.numel())).indices]
        return (attention.mean(0) * rater[:, None]).sum(0) / rater.sum()
