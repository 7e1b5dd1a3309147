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


def attention_rows(queries: Tensor, keys: Tensor, future: Tensor | None, scaling: float) -> Tensor:
    """Softmax attention of some rows over a causal sequence.

    Args:
        queries: rotated queries of the rows, (heads, rows, head_dim).
        keys: rotated keys of the whole sequence, (key_value_heads, n, head_dim).
        future: which of the last m columns a row may not see, boolean (rows, m); it sees all columns before.
        scaling: usually head_dim ** -0.5.

    Returns:
        Attention, float32, (heads, rows, n).
    """
    (heads, rows, head_dim), n = queries.shape, keys.shape[1]
    grouped = (queries * scaling).reshape(keys.shape[0], heads // keys.shape[0] * rows, head_dim)
    logits = (grouped @ keys.transpose(-1, -2)).float().view(heads, rows, n)
    if future is not None:
        logits[:, :, n - future.shape[1] :].masked_fill_(future, float("-inf"))
    return logits.softmax(dim=-1)


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
        self.futures: dict[int, Tensor] = {}

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
        self.futures = {}

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
        return attention_rows(rotated, keys, self._future(places, keys), attention.scaling)

    def _future(self, places: Tensor | int, keys: Tensor) -> Tensor | None:
        """Which columns lie ahead of each row: among all, or, of rows at the end, among as many columns at the end."""
        if isinstance(places, Tensor):
            return torch.arange(keys.shape[1], device=keys.device) > places[:, None]
        if places > 1 and places not in self.futures:
            self.futures[places] = torch.ones(places, places, dtype=torch.bool, device=keys.device).triu_(1)
        return self.futures.get(places)

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
        return attention_rows(rotate(queries, cos[-1:], sin[-1:]), rotate(keys, cos, sin), None, attention.scaling)


def _projection(attention: nn.Module, name: str) -> nn.Module:
    projection = getattr(attention, name)
    assert isinstance(projection, nn.Module)
    return projection
