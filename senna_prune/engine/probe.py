"""Attention rows of a few queries, computed beside whatever attention kernel the model runs.

Queries are what `q_proj` produced in the layer just run, caught by a hook; keys are what it put into its cache, or
what `k_proj` produced where there is none. Only the chosen rows are multiplied and softmaxed (float32, over the whole
causal row): SDPA and flash stay on, no (n, n) matrix exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

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


@dataclass
class Capture:
    """Projections of one layer: (batch, width, heads * head_dim), not yet rotated."""

    queries: Tensor | None = None
    keys: Tensor | None = None


class Probe:
    """Catches the projections of armed layers and turns them into attention rows."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.armed: int | None = None
        self.capture = Capture()
        self.cos: Tensor | None = None
        self.sin: Tensor | None = None
        self.cache: Any = None
        self.biases: dict[int, Tensor] = {}

    def hooks(self) -> Iterator[Any]:
        """Register on every layer's projections, one at a time; the handles are the caller's to remove."""
        for index, layer in enumerate(self.decoder.layers):
            attention = layer.self_attn
            assert isinstance(attention, nn.Module)
            yield _projection(attention, "q_proj").register_forward_hook(self._catch(index, "queries"))
            yield _projection(attention, "k_proj").register_forward_hook(self._catch(index, "keys"))

    def _catch(self, index: int, part: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            if self.armed == index and (part == "queries" or self.cache is None):
                setattr(self.capture, part, output)

        return hook

    def arm(self, layer: int, cos: Tensor, sin: Tensor, cache: Any) -> None:
        """Catch the projections of `layer`, about to run with rotary tables of shape (batch or 1, width, head_dim) and
        the (empty) cache, or None."""
        self.armed, self.capture, self.cos, self.sin, self.cache = layer, Capture(), cos, sin, cache

    def release(self) -> None:
        """Drop what was caught."""
        self.armed, self.capture, self.cos, self.sin, self.cache = None, Capture(), None, None, None
        self.biases = {}

    def rows(self, sample: int, span: slice, places: Tensor | int) -> Tensor:
        """Attention rows of the armed layer for one sample.

        Args:
            sample: row of the batch.
            span: the n columns that hold the sample; padding is outside.
            places: query tokens, as places in the sample's own sequence, (rows,), or how many of its last ones.

        Returns:
            (heads, rows, n), float32.
        """
        assert self.armed is not None and self.capture.queries is not None
        assert self.cos is not None and self.sin is not None
        attention: Any = self.decoder.layers[self.armed].self_attn
        table = sample if self.cos.shape[0] > 1 else 0
        cos, sin = self.cos[table, span], self.sin[table, span]
        queries = split_heads(take(self.capture.queries[sample, span], places), attention.head_dim)
        if self.cache is not None:
            keys = self.cache.layers[self.armed].keys[sample, :, span]
        else:
            assert self.capture.keys is not None
            keys = rotate(split_heads(self.capture.keys[sample, span], attention.head_dim), cos, sin)
        rotated = rotate(queries, take(cos, places), take(sin, places))
        return attention_rows(rotated, keys, self._bias(places, keys, queries.shape[0]), attention.scaling)

    def _bias(self, places: Tensor | int, keys: Tensor, heads: int) -> Tensor:
        """-inf at the columns ahead of each row, 0 elsewhere, once for every query head of a key's group."""
        group, n = heads // keys.shape[0], keys.shape[1]
        if isinstance(places, Tensor):
            ahead = torch.arange(n, device=keys.device) > places[:, None]
            return keys.new_zeros(ahead.shape).masked_fill_(ahead, -torch.inf).repeat(group, 1)
        # Rows at the end look the same from there in a sequence of any length.
        known = self.biases.get(places)
        if known is None or known.shape[1] < n:
            known = keys.new_full((places, n), -torch.inf).triu_(n - places + 1).repeat(group, 1)
            self.biases[places] = known
        return known[:, known.shape[1] - n :]

    def next_rows(self, layer: int, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Row of the last token that `layer`, not yet run, would compute on `hidden`, shape (n, d), with its norm and
        projections.

        `cos`, `sin` (n, head_dim). Returns (heads, 1, n), float32.
        """
        module: Any = self.decoder.layers[layer]
        attention = module.self_attn
        normed = module.input_layernorm(hidden)
        queries = split_heads(attention.q_proj(normed[-1:]), attention.head_dim)
        keys = split_heads(attention.k_proj(normed), attention.head_dim)
        rotated = rotate(queries, cos[-1:], sin[-1:])
        return attention_rows(rotated, rotate(keys, cos, sin), normed.new_zeros(()), attention.scaling)


def _projection(attention: nn.Module, name: str) -> nn.Module:
    projection = getattr(attention, name)
    assert isinstance(projection, nn.Module)
    return projection
