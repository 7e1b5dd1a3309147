"""Mutual information between question and scene, as released and as printed, and its calibration."""

from __future__ import annotations

import torch
from torch import Tensor

from senna_prune.devices import constant

PUBLISHED_MOST = 2.0
"""k0 / gamma of the published 0.4 and 0.2: over complexities 0 to 2 the slope of Eq. 8 runs from k0 down to 0. Above it
is clamped, and the method does not adapt."""


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
    points = constant(quantiles, torch.float32, value.device)
    upper = torch.searchsorted(points, value.float()).clamp(1, len(quantiles) - 1)
    low, high = points[upper - 1], points[upper]
    within = ((value.float() - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return PUBLISHED_MOST * (upper - 1 + within) / (len(quantiles) - 1)
