"""Decoding after a pruned prefill: every layer continues from its own cache length."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from senna_prune.engine.decoder import Decoder
from senna_prune.engine.masks import attention_mask
from senna_prune.errors import PruningError


@dataclass(frozen=True)
class TokenTree:
    """Continuations read side by side.

    Attributes:
        visible: which new tokens each new token sees, itself included, boolean, (q, q).
        depths: how many tokens of its own continuation stand before each, (q,).
    """

    visible: Tensor
    depths: Tensor


@dataclass(frozen=True)
class LayerShape:
    """What one layer's cache held right after prefill.

    Attributes:
        spans: first and last + 1 real column per sample.
        width: columns, padding included.
        pruned: the layer was cut, or one before it.
    """

    spans: tuple[tuple[int, int], ...]
    width: int
    pruned: bool

    @property
    def lengths(self) -> list[int]:
        """Real tokens per sample."""
        return [end - begin for begin, end in self.spans]


class DecodeShapes:
    """Positions and masks of the tokens that follow the prompt."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.repacked = False
        self.prompt_lengths: list[int] = []
        self.next_positions: Tensor | None = None
        self.layers: list[LayerShape] = []
        self.owner: Callable[[], Any] = lambda: None
        self.cache: Any = None
        self.tree: TokenTree | None = None
        self._memo: dict[Any, dict[str, Any]] = {}

    def reset(self, prompt_lengths: list[int], next_positions: Tensor, repacked: bool) -> None:
        """A new prefill begins.

        Args:
            prompt_lengths: tokens of each unpruned prompt.
            next_positions: the position that follows each prompt in the model's own counting, (batch,); layers that saw
                the whole prompt go on from there.
            repacked: cut layers go on from their own length, otherwise from the prompt's.
        """
        self.prompt_lengths, self.next_positions, self.repacked = prompt_lengths, next_positions, repacked
        self.layers, self.owner = [], lambda: None

    def record(self, layer: int, shape: LayerShape, cache: Any) -> None:
        """What enters `layer`, and the cache that will hold it."""
        assert layer == len(self.layers)
        self.layers.append(shape)
        if cache is not None:
            self.owner = weakref.ref(cache)

    def lengths(self) -> list[list[int]]:
        """Cache lengths without padding, (L, batch)."""
        return [layer.lengths for layer in self.layers]

    def begin(self, cache: Any, tree: TokenTree | None = None) -> None:
        """A decoding step begins on `cache`, with tokens in a row or in a tree.

        Raises:
            PruningError: `cache` was not filled by the latest prefill of this context.
        """
        if self.owner() is not cache:
            raise PruningError(
                "this cache was not filled by the latest prefill inside the prune context",
                hint="read the whole prompt inside the context, in one pass, before continuing it",
            )
        self.cache, self.tree, self._memo = cache, tree, {}

    def end(self) -> None:
        """The step is over: hold on to nothing of it."""
        self.cache, self.tree, self._memo = None, None, {}

    def overrides(self, layer: int, hidden: Tensor) -> dict[str, Any]:
        """Layer arguments for new tokens of shape (batch, q, d); empty where the model's own are right."""
        if layer >= len(self.layers) or not (self.layers[layer].pruned or self.tree):
            return {}
        shape, queries = self.layers[layer], hidden.shape[1]
        seen = int(self.cache.get_seq_length(layer))
        key = (shape, seen, queries)
        if key not in self._memo:
            self._memo[key] = self._write(shape, seen, hidden)
        return self._memo[key]

    def _write(self, shape: LayerShape, seen: int, hidden: Tensor) -> dict[str, Any]:
        queries, device = hidden.shape[1], hidden.device
        step = seen - shape.width
        assert self.next_positions is not None
        if not shape.pruned:
            starts = self.next_positions.to(device) + step
        else:
            first = shape.lengths if self.repacked else self.prompt_lengths
            starts = torch.tensor([begin + step for begin in first]).to(device, non_blocking=True)
        depths = torch.arange(queries, device=device) if self.tree is None else self.tree.depths
        positions = starts[:, None] + depths
        cos, sin = self.decoder.rotary(hidden, positions)
        keys = seen + queries
        return {
            "attention_mask": attention_mask(
                shape.spans,
                shape.width,
                queries,
                added=keys - shape.width,
                implementation=self.decoder.attention,
                dtype=hidden.dtype,
                device=device,
                among_queries=None if self.tree is None else self.tree.visible,
            ),
            "position_embeddings": (cos, sin),
            "position_ids": torch.arange(seen, keys, device=device)[None],
        }
