"""What stands for a sample's complexity: mutual information, the other indicators of Table 4a, or a given number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from senna_prune.pruning.base import EMBEDDINGS, TEXT_ATTENTION, Observation

PUBLISHED_MOST = 2.0
"""k0 / gamma of the published 0.4 and 0.2: over complexities 0 to 2 the slope of Eq. 8 runs from k0 down to 0. Above it
is clamped, and the method does not adapt."""
MEASURED_LAYER = 1
"""The layer whose attention gives the complexity."""


@dataclass(frozen=True)
class Indicator:
    """One number per sample that says how tightly the question binds to the scene; high = easy (prune early).

    Attributes:
        kind: "mutual_information": head sum, as released. "printed_mutual_information": head mean, since the paper
            names no head. Of Table 4a, whose scaling is not published: "mean_attention", what a text row spends on
            visual tokens, mean over heads and rows, in [0, 1]; "cosine", the mean cosine between text and visual input
            embeddings, in [-1, 1].
        scale: factor on the head sum, for another number of heads.
        quantiles: of a calibration, see `on_published_range`; empty: the number as measured.
    """

    kind: Literal["mutual_information", "printed_mutual_information", "mean_attention", "cosine"]
    scale: float = 1.0
    quantiles: tuple[float, ...] = ()
    layer: ClassVar[int] = MEASURED_LAYER

    @property
    def needs(self) -> frozenset[str]:
        """See `base.Complexity`."""
        return frozenset({EMBEDDINGS if self.kind == "cosine" else TEXT_ATTENTION})

    def measure(self, observation: Observation) -> Tensor:
        """See `base.Complexity`."""
        measured = self._measure(observation)
        return on_published_range(measured, self.quantiles) if self.quantiles else measured

    def _measure(self, observation: Observation) -> Tensor:
        if self.kind == "cosine":
            assert observation.text_embeddings is not None and observation.visual_embeddings is not None
            text = F.normalize(observation.text_embeddings.float(), dim=-1).mean(0)
            return text @ F.normalize(observation.visual_embeddings.float(), dim=-1).mean(0)
        if self.kind == "mean_attention":
            return observation.attention.float().sum(-1).mean()
        if self.kind == "printed_mutual_information":
            return printed_mutual_information(observation.attention).mean()
        assert observation.rows is not None
        return mutual_information(observation.rows, observation.slots).sum() * self.scale


@dataclass(frozen=True)
class Assumed:
    """A complexity that is given instead of measured, at the layer where it would have been."""

    value: float
    layer: ClassVar[int] = MEASURED_LAYER
    needs: ClassVar[frozenset[str]] = frozenset()

    def measure(self, observation: Observation) -> Tensor:
        """See `base.Complexity`."""
        return observation.sequence.new_tensor(self.value, dtype=torch.float32)


def mutual_information(attention: Tensor, columns: Tensor | None = None) -> Tensor:
    """The released estimate per head, shape (heads,), float32, in bits: Eqs. 3 and 4 with base-2 logarithms, on rows
    that are not renormalised over the visual tokens.

    Args:
        attention: softmax attention from text rows to visual columns, shape (heads, queries, n).
        columns: which of the n columns are visual, if not all; cheaper than gathering them first.
    """
    rows, queries = attention.float(), attention.shape[1]
    # The joint distribution is rows / queries; dividing sums instead of all of them saves a pass over the attention.
    product = rows.sum(1, keepdim=True) / queries**2
    terms = (rows / ((product + 1e-6) * queries)).clamp_(min=1e-6).log2_().mul_(rows).sum(1)
    return (terms if columns is None else terms.index_select(-1, columns)).sum(-1) / queries


def printed_mutual_information(attention: Tensor) -> Tensor:
    """Eqs. 3 and 4 per head, shape (heads,), float32, in nats; rows are distributions over the visual tokens.

    `attention` as for `mutual_information`.
    """
    conditional = attention.float()
    conditional = conditional / conditional.sum(-1, keepdim=True).clamp(min=1e-12)
    marginal = conditional.mean(1, keepdim=True)
    ratio = torch.where(conditional > 0, conditional / marginal.clamp(min=1e-12), 1.0)
    return (conditional * ratio.log()).sum((1, 2)) / attention.shape[1]


def on_published_range(value: Tensor, quantiles: tuple[float, ...]) -> Tensor:
    """`PUBLISHED_MOST` times the share of calibration samples below `value`, linear between quantiles, 0-d float32.

    Ours, off by default. The slopes of samples like the calibration's are then spread evenly over [0, k0].

    Args:
        value: measured, 0-d.
        quantiles: at evenly spaced shares from 0 to 1 of the calibration samples, ascending, two at least.
    """
    points = torch.tensor(quantiles, dtype=torch.float32, device=value.device)
    upper = torch.searchsorted(points, value.float()).clamp(1, len(quantiles) - 1)
    low, high = points[upper - 1], points[upper]
    within = ((value.float() - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return PUBLISHED_MOST * (upper - 1 + within) / (len(quantiles) - 1)
