"""Attention rows of a few queries, computed beside whatever attention kernel the model runs.

Queries are what `q_proj` produced in the layer just run, caught by a hook; keys are what it put into its cache, or
what `k_proj` produced where there is none. Only the chosen rows are multiplied and softmaxed (float32, over the whole
causal row): SDPA and flash stay on, no (n, n) matrix exists.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from senna_prune.devices import moved
from senna_prune.engine.decoder import Decoder, rotate, split_heads


def attention_rows(queries: Tensor, keys: Tensor, bias: Tensor, scaling: float) -> Tensor:
    """Softmax attention of some rows over a causal sequence.

    Args:
        queries: rotated queries of the rows, (heads, rows, head_dim).
        keys: rotated keys of the whole sequence, (key_value_heads, n, head_dim).
        bias: 0 where a row may look, -inf at columns ahead of it; broadcasts to (heads // key_value_heads * rows, n).
        scaling: usually head_dim ** -0.5.

    Returns:
        Attention, float32, (heads, rows, n).
    """
    (heads, rows, head_dim), n = queries.shape, keys.shape[1]
    grouped = queries.reshape(keys.shape[0], heads // keys.shape[0] * rows, head_dim)
    # Scaling, mask and product in one operation.
    logits = torch.baddbmm(bias, grouped, keys.transpose(-1, -2), alpha=scaling).view(heads, rows, n)
    return logits.softmax(dim=-1, dtype=torch.float32)


def take(tokens: Tensor, places: Tensor | int) -> Tensor:
    """Rows of `tokens`, shape (n, ...): those at `places`, or the last so many."""
    if isinstance(places, int):
        return tokens[tokens.shape[0] - places :]
    return tokens.index_select(0, places)


class Capture:
    """The projections of one layer, and the attention rows they give.

    Args:
        decoder, layer: where the layer is.
        tables: cosine and sine it runs with, each (batch or 1, width, head_dim).
        cache: the cache it fills, or None.
        biases: masks of earlier layers, to be used again and added to.
    """

    def __init__(
        self,
        decoder: Decoder,
        layer: int,
        tables: tuple[Tensor, Tensor],
        cache: Any,
        biases: dict[Any, Tensor],
    ) -> None:
        self.attention: Any = decoder.layers[layer].self_attn
        self.layer, self.tables, self.cache = layer, tables, cache
        self.caught: dict[str, Tensor] = {}
        self.biases = biases

    def catch(self, layer: int, projection: str, output: Tensor) -> None:
        """Keep what `projection` of `layer` produced, (batch, width, heads * head_dim), if it will be read."""
        if layer == self.layer and (projection == "q_proj" or self.cache is None):
            self.caught[projection] = output

    def rows(self, sample: int, span: slice, places: Tensor | int) -> Tensor:
        """Attention rows of one sample.

        Args:
            sample: row of the batch.
            span: the n columns that hold the sample; padding is outside.
            places: query tokens, as places in the sample's own sequence, (rows,), or how many of its last ones.

        Returns:
            (heads, rows, n), float32.
        """
        projected, head_dim = self.caught["q_proj"][sample, span], self.attention.head_dim
        cos, sin = (moved(t[sample if len(t) > 1 else 0, span], projected.device) for t in self.tables)
        queries = split_heads(take(projected, places), head_dim)
        keys = self.keys(sample, span)
        rotated = rotate(queries, take(cos, places), take(sin, places))
        return attention_rows(rotated, keys, self._bias(places, keys, queries.shape[0]), self.attention.scaling)

    def keys(self, sample: int, span: slice) -> Tensor:
        """Keys of one sample after RoPE, (key_value_heads, n, head_dim); `sample` and `span` as in `rows`."""
        if self.cache is not None:
            return self.cache.layers[self.layer].keys[sample, :, span]
        projected = self.caught["k_proj"][sample, span]
        cos, sin = (moved(t[sample if len(t) > 1 else 0, span], projected.device) for t in self.tables)
        return rotate(split_heads(projected, self.attention.head_dim), cos, sin)

    def _bias(self, places: Tensor | int, keys: Tensor, heads: int) -> Tensor:
        """-inf at the columns ahead of each row, 0 elsewhere, once for every query head of a key's group."""
        group, n = heads // keys.shape[0], keys.shape[1]
        if isinstance(places, Tensor):
            ahead = torch.arange(n, device=keys.device) > places[:, None]
            return keys.new_zeros(ahead.shape).masked_fill_(ahead, -torch.inf).repeat(group, 1)
        # Rows at the end look the same from there in a sequence of any length.
        known = self.biases.get((places, keys.device))
        if known is None or known.shape[1] < n:
            known = keys.new_full((places, n), -torch.inf).triu_(n - places + 1).repeat(group, 1)
            self.biases[places, keys.device] = known
        return known[:, known.shape[1] - n :]


def next_rows(decoder: Decoder, layer: int, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Row of the last token that `layer`, not yet run, would compute on `hidden`, shape (n, d), with its norm and
    projections.

    `cos`, `sin` (n, head_dim). Returns (heads, 1, n), float32.
    """
    module: Any = decoder.layers[layer]
    attention = module.self_attn
    normed = module.input_layernorm(hidden)
    queries = split_heads(attention.q_proj(normed[-1:]), attention.head_dim)
    keys = split_heads(attention.k_proj(normed), attention.head_dim)
    cos, sin = moved(cos, keys.device), moved(sin, keys.device)
    rotated = rotate(queries, cos[-1:], sin[-1:])
    rows = attention_rows(rotated, rotate(keys, cos, sin), normed.new_zeros(()), attention.scaling)
    return moved(rows, hidden.device)
