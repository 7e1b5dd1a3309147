"""The contract between policies and the engine: what a policy gets, what it declares, what it returns.

A policy sees one sample at one *boundary* between layers. Boundary `l` comes before decoder layer `l` (boundary 0:
before the decoder); `tokens[l]` visual tokens enter layer `l`. Everything here is a pure function of tensors and
numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

TEXT_ATTENTION = "text_attention"
"""Rows of the text queries in the layer just run -> `Observation.attention`, shape (heads, queries, n)."""
LAST_ATTENTION = "last_attention"
"""Row of the last prompt token in the layer just run -> `Observation.attention`, shape (heads, 1, n)."""
NEXT_ATTENTION = "next_attention"
"""Row of the last prompt token under the *next* layer's norm and projections -> `attention`, (heads, 1, n)."""
KEYS = "keys"
"""Keys of the layer just run, after RoPE -> `Observation.keys`, shape (key_value_heads, n, head_dim)."""
NORMED = "normed"
"""Hidden states under the decoder's final norm, text included -> `Observation.normed`, shape (length, d)."""
VISION = "vision"
"""Evidence from the vision tower -> `Observation.vision`."""
EMBEDDINGS = "embeddings"
"""Input embeddings of the text queries and of the original visual tokens."""
ROPE_PRODUCT = "rope_product"
"""RoPE product of two all-ones vectors per (query, visual) pair -> `Observation.rope_product`, (queries, n)."""


@dataclass(frozen=True)
class VisionScores:
    """What the vision tower says about one sample's visual tokens, in the order of the visual list.

    Attributes:
        score: CLS attention per visual token, shape (num_visual,). On hosts whose tokens are patches it is the raw CLS
            row; on Senna it is mapped through the adapter (see `hosts.senna`).
        keys: key projections per visual token, shape (num_visual, key_dim), or None.
    """

    score: Tensor
    keys: Tensor | None = None


@dataclass(frozen=True)
class Observation:
    """One sample at one boundary.

    Attributes:
        layer: the layer about to be entered; attention, where given, is of layer `layer - 1` (or of `layer` itself for
            `NEXT_ATTENTION`).
        num_layers: decoder layers L.
        origin: index of each current visual token in the sample's original visual list, shape (n,), int64;
            a merged token has -1 - the layer before which it was merged.
        views: view number of each current visual token, shape (n,), int64, ascending.
        num_views: number of views.
        slots: indices of the n tokens among the rows of `sequence` and the columns of `rows`, shape (n,), ascending.
        sequence: hidden states entering the layer, text and visual, shape (length, d); read through `hidden`, `states`.
        queries: indices of the text queries among the rows of `sequence`, or how many of its last rows they are; read
            through `text_slots`.
        keep: how many of the n tokens the score is to choose; `Pruner.select` sets it.
        rows: softmax attention over the whole causal row, float32, shape (heads, queries, length), None unless asked
            for; read through `attention`, `mean_attention`.
        sequence_keys: keys of the whole sequence in layer `layer - 1`, after RoPE, in the model's dtype, shape
            (key_value_heads, length, head_dim); None at boundary 0 and unless asked for; read also through `keys`.
        normed: `sequence` under the decoder's final norm, None unless asked for.
        vision: evidence over the *original* visual list; index it with `origin` (merged tokens have none).
        text_embeddings, visual_embeddings: decoder inputs, shapes (queries, d) and (num_visual, d).
        rope_product: shape (queries, n), float32.
    """

    layer: int
    num_layers: int
    origin: Tensor
    views: Tensor
    num_views: int
    slots: Tensor
    sequence: Tensor
    queries: Tensor | int = 0
    keep: int = 0
    rows: Tensor | None = None
    sequence_keys: Tensor | None = None
    normed: Tensor | None = None
    vision: VisionScores | None = None
    text_embeddings: Tensor | None = None
    visual_embeddings: Tensor | None = None
    rope_product: Tensor | None = None

    @cached_property
    def hidden(self) -> Tensor:
        """Hidden states of the current visual tokens, shape (n, d)."""
        return self.sequence.index_select(0, self.slots)

    @cached_property
    def text_slots(self) -> Tensor:
        """Indices of the text queries among the rows of `sequence`, shape (queries,)."""
        if isinstance(self.queries, Tensor):
            return self.queries
        length = self.sequence.shape[0]
        return torch.arange(length - self.queries, length, device=self.sequence.device)

    @cached_property
    def keys(self) -> Tensor:
        """Keys of the current visual tokens in layer `layer - 1`, after RoPE, (key_value_heads, n, head_dim)."""
        assert self.sequence_keys is not None, "the scorer did not ask for keys"
        return self.sequence_keys.index_select(1, self.slots)

    def states(self, tokens: Tensor) -> Tensor:
        """Hidden states of some visual tokens, by their index in the current list, shape (len(tokens), d)."""
        return self.sequence.index_select(0, self.slots.index_select(0, tokens))

    @cached_property
    def attention(self) -> Tensor:
        """Softmax attention to the current visual tokens, exact denominator, float32, shape (heads, queries, n)."""
        assert self.rows is not None, "the scorer did not ask for attention"
        return self.rows.index_select(-1, self.slots)

    def mean_attention(self) -> Tensor:
        """`attention` averaged over heads and queries, shape (n,); cheaper than taking it apart."""
        assert self.rows is not None, "the scorer did not ask for attention"
        return self.rows.mean((0, 1)).index_select(-1, self.slots)


@dataclass(frozen=True)
class LayerCounts:
    """How many visual tokens enter each layer.

    Attributes:
        tokens: L + 1 counts; `tokens[l]` enter layer l, `tokens[L]` would leave the last one. Published accounting
            counts that last cut, but the engine does not make it, as nothing uses its result.
        merged: L + 1 counts; of `tokens[l]`, how many are merged anew at boundary l.
    """

    tokens: tuple[int, ...]
    merged: tuple[int, ...]

    @property
    def entering(self) -> float:
        """Mean over layers of the tokens entering it."""
        return sum(self.tokens[:-1]) / (len(self.tokens) - 1)

    @property
    def after(self) -> float:
        """Mean over layers of the tokens after it, as publications count."""
        return sum(self.tokens[1:]) / (len(self.tokens) - 1)


@dataclass(frozen=True)
class Selection:
    """The tokens behind a boundary.

    Attributes:
        keep: indices into the current visual list, ascending and unique, shape (k,), int64.
        merged: hidden states of new tokens, shape (c, d), or None.
        anchors: for each merged token the index (into the current visual list) of its cluster centre, shape (c,):
            it takes that token's view and, with original positions, its position. The engine puts merged tokens after
            the kept tokens of their view, in the given order.
        states: hidden states that the kept tokens go on with, shape (k, d), where others were merged into them; None
            leaves them as they are.
    """

    keep: Tensor
    merged: Tensor | None = None
    anchors: Tensor | None = None
    states: Tensor | None = None


class Complexity(Protocol):
    """A number per sample that the schedule depends on."""

    @property
    def layer(self) -> int:
        """Decoder layer whose text attention is measured: the number is known when boundary `layer + 1` is decided."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """Like `Scorer.needs`, for the observation handed to `measure`."""
        ...

    def measure(self, observation: Observation) -> Tensor:
        """0-d float32 tensor; attention, where asked for, is of the text rows in layer `self.layer`."""
        ...


class Scorer(Protocol):
    """Which visual tokens to keep."""

    @property
    def needs(self) -> frozenset[str]:
        """What `score` reads of the observation beyond tokens and views: the constants above."""
        ...

    def score(self, observation: Observation) -> Tensor:
        """Scores of shape (n,), float32, higher = keep."""
        ...


class Merger(Protocol):
    """Lets tokens that are not kept live on: as a few new tokens, or inside the kept ones."""

    def merge(self, observation: Observation, order: Tensor, keep: Tensor, count: int) -> Selection:
        """`count` new tokens are to be made, often 0.

        Args:
            observation: the sample before the cut.
            order: all its visual tokens: first those that are kept, then the others by falling score, shape (n,).
            keep: the kept ones, ascending.
        """
        ...
