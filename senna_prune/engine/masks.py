"""Padding samples of different lengths into one batch, and the attention masks that undo the padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

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
    lengths: Sequence[int],
    keys: int,
    queries: int,
    *,
    implementation: str,
    dtype: torch.dtype,
    device: torch.device,
    among_queries: Tensor | None = None,
) -> Tensor | None:
    """Mask of a left-padded batch in the form the attention implementation reads.

    Args:
        lengths: real tokens per sample among the `keys` columns (the last ones).
        keys: columns, padding included.
        queries: rows; they are the last `queries` columns.
        among_queries: which of the last columns each row sees, boolean (queries, queries); None: causal.

    Returns:
        None where the implementation's own causal rule suffices; else flash: (batch, keys) of ones and zeros; sdpa:
        boolean (batch, 1, queries, keys), True = attend; eager: the same, additive.
    """
    padded = any(length < keys for length in lengths)
    if among_queries is not None and implementation.startswith("flash"):
        raise PruningError("flash attention takes no tree mask", mend="read out with sdpa or eager attention")
    if implementation.startswith("flash"):
        if not padded:
            return None
        starts = torch.tensor([keys - length for length in lengths], device=device)
        return (torch.arange(keys, device=device) >= starts[:, None]).long()
    if among_queries is None and not padded and (queries == 1 or (queries == keys and implementation == "sdpa")):
        return None
    starts = torch.tensor([keys - length for length in lengths], device=device)
    column = torch.arange(keys, device=device)
    row = torch.arange(keys - queries, keys, device=device)
    order = column <= row[:, None]
    if among_queries is not None:
        order[:, keys - queries :] = among_queries
    allowed = order & (column >= starts[:, None, None])
    # A padding row attends to itself: a row with nothing to attend to would spread NaN through the values.
    allowed = (allowed | (column == row[:, None]))[:, None]
    if implementation == "sdpa":
        return allowed
    return torch.zeros(allowed.shape, dtype=dtype, device=device).masked_fill(~allowed, torch.finfo(dtype).min)
