"""Padding samples of different lengths into one batch, and the attention masks that undo the padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from senna_prune.devices import constant
from senna_prune.errors import PruningError


def pad_left(rows: Sequence[Tensor]) -> Tensor:
    """Stack rows of shape (n_i, ...) into (batch, max n, ...); padding (zeros) goes to the left, where it stays out of
    the way of `generate`, which reads the last column."""
    width = max(row.shape[0] for row in rows)
    if len(rows) == 1:
        return rows[0].unsqueeze(0)
    batch = rows[0].new_zeros((len(rows), width, *rows[0].shape[1:]))
    for i, row in enumerate(rows):
        batch[i, width - row.shape[0] :] = row
    return batch


def attention_mask(
    spans: Sequence[tuple[int, int]],
    width: int,
    queries: int,
    *,
    added: int = 0,
    implementation: str,
    dtype: torch.dtype,
    device: torch.device,
    among_queries: Tensor | None = None,
) -> Tensor | None:
    """Mask of a padded batch in the form the attention implementation reads.

    Args:
        spans: first and last + 1 real column per sample among the first `width` columns; the rest of these is padding.
        width: columns of the prompt, padding included.
        queries: rows; they are the last `queries` columns.
        added: columns behind the prompt, all real.
        among_queries: which of the last columns each row sees, boolean (queries, queries); None: causal.

    Returns:
        None where the implementation's own causal rule suffices; else, with keys = width + added, flash: (batch, keys)
        of ones and zeros; sdpa: boolean (batch, 1, queries, keys), True = attend; eager: the same, additive.
    """
    keys, padded = width + added, any(end - begin < width for begin, end in spans)
    if among_queries is not None and implementation.startswith("flash"):
        raise PruningError("flash attention takes no tree mask", hint="read out with sdpa or eager attention")
    built_in = implementation.startswith("flash") or queries == 1 or (queries == keys and implementation == "sdpa")
    if built_in and among_queries is None and not padded:
        return None
    bounds = constant(tuple(spans), torch.long, device)
    column = torch.arange(keys, device=device)
    real = ((column >= bounds[:, :1]) & (column < bounds[:, 1:])) | (column >= width)
    if implementation.startswith("flash"):
        return real.long()
    row = torch.arange(keys - queries, keys, device=device)
    order = column <= row[:, None]
    if among_queries is not None:
        order[:, keys - queries :] = among_queries
    # A padding row attends to itself: a row with nothing to attend to would spread NaN through the values.
    allowed = ((order & real[:, None]) | (column == row[:, None]))[:, None]
    if implementation == "sdpa":
        return allowed
    return torch.zeros(allowed.shape, dtype=dtype, device=device).masked_fill(~allowed, torch.finfo(dtype).min)
