"""Decoding after a pruned prompt: every layer continues from its own cache length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from senna_prune.devices import constant, copied_once, moved
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
class CacheShape:
    """What one layer's cache held right after the prompt.

    Attributes:
        spans: first and last + 1 real column per sample.
        width: columns, padding included.
        cut: tokens were removed before this layer or before an earlier one.
    """

    spans: tuple[tuple[int, int], ...]
    width: int
    cut: bool

    @property
    def lengths(self) -> tuple[int, ...]:
        """Real tokens per sample."""
        return tuple(end - begin for begin, end in self.spans)


@dataclass(frozen=True)
class PromptCache:
    """What a prompt leaves for the tokens that follow it.

    Attributes:
        owner: returns the cache it filled, or None once that is gone.
        layers: one shape per layer.
        next_positions: the position that follows each prompt in the model's own counting, (batch,).
        repacked: layers that were cut go on from their own length instead.
    """

    owner: Callable[[], Any]
    layers: tuple[CacheShape, ...]
    next_positions: Tensor
    repacked: bool


class DecodeStep:
    """New tokens on their way through the decoder: made when they enter, dropped at the end.

    Args:
        prompt: what the latest prompt left; None if there was none.
        cache: the cache they continue.
        tree: how they see each other; None: one after the other.

    Raises:
        PruningError: `cache` was not filled by the latest prompt.
    """

    def __init__(self, decoder: Decoder, prompt: PromptCache | None, cache: Any, tree: TokenTree | None) -> None:
        if prompt is None or prompt.owner() is not cache:
            raise PruningError(
                "this cache was not filled by the latest prefill inside the prune context",
                hint="read the whole prompt inside the context, in one pass, before continuing it",
            )
        self.decoder, self.prompt, self.cache, self.tree = decoder, prompt, cache, tree
        self.tables: dict[Any, tuple[Tensor, Tensor]] = {}
        self.arguments: dict[Any, dict[str, Any]] = {}

    def enter(self, layer: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Arguments of `layer` for new tokens of shape (batch, q, d); the model's own where those are right."""
        shape = self.prompt.layers[layer]
        if not (shape.cut or self.tree):
            return hidden, kwargs
        seen = int(self.cache.get_seq_length(layer))
        key = (shape, seen, hidden.device)
        if key not in self.arguments:
            self.arguments[key] = self._write(shape, seen, hidden)
        return hidden, kwargs | self.arguments[key]

    def _write(self, shape: CacheShape, seen: int, hidden: Tensor) -> dict[str, Any]:
        queries, device, tree = hidden.shape[1], hidden.device, self.tree
        step, keys = seen - shape.width, seen + queries
        lengths = shape.lengths if shape.cut and self.prompt.repacked else None
        known = (lengths, step, device)
        if known not in self.tables:
            first = self.prompt.next_positions if lengths is None else constant(lengths, torch.long, device)
            depths = torch.arange(queries, device=device) if tree is None else copied_once(tree.depths, device)
            self.tables[known] = self.decoder.rotary(hidden, (moved(first, device) + step)[:, None] + depths)
        return {
            "attention_mask": attention_mask(
                shape.spans,
                shape.width,
                queries,
                added=keys - shape.width,
                implementation=self.decoder.attention,
                dtype=hidden.dtype,
                device=device,
                among_queries=None if tree is None else copied_once(tree.visible, device),
            ),
            "position_embeddings": self.tables[known],
            "position_ids": torch.arange(seen, keys, device=device)[None],
        }
