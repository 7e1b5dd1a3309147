"""Decoding after a pruned prompt: every layer continues from its own cache length."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from senna_prune.devices import constant, copied_once, moved
from senna_prune.engine.decoder import Decoder, attention_mask
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
    """What a prompt leaves for the tokens that follow it; its cache carries it, also when the cache is copied.

    Attributes:
        context: the `prune` context that filled the cache.
        layers: one shape per layer.
        width: columns of the unpruned batch.
        next_positions: the position that follows each prompt in the model's own counting, (batch,).
        repacked: layers that were cut go on from their own length instead.
    """

    context: str
    layers: tuple[CacheShape, ...]
    width: int
    next_positions: Tensor
    repacked: bool

    def read(self, cache: Any) -> int:
        """Columns that were read so far, those of tokens removed since included."""
        return self.width + int(cache.get_seq_length()) - self.layers[0].width

    @property
    def cut(self) -> bool:
        """Whether tokens were removed before any layer."""
        return self.layers[-1].cut


_reading = threading.local()
"""`_reading.prompt`: whose cache the decoder call that runs in this thread may read."""


def stop_reading() -> None:
    """No cache is read in this thread any more."""
    _reading.prompt = None


class PrunedLayer(DynamicLayer):
    """A cache layer of a pruned prompt. Only a call that the context has let through may read it: to any other model or
    context it would look like a cache of ordinary length."""

    prompt: PromptCache

    def _require_reader(self) -> None:
        if self.prompt.cut and getattr(_reading, "prompt", None) is not self.prompt:
            raise PruningError(
                "this cache was filled under prune() and does not hold the whole prompt",
                hint="continue it inside the prune context that filled it, with the same model",
            )

    def update(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self._require_reader()
        return super().update(*args, **kwargs)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        self._require_reader()
        return super().get_mask_sizes(query_length)

    def reset(self) -> None:
        self.__class__ = DynamicLayer  # type: ignore[assignment]
        del self.prompt
        self.reset()


def prompt_of(cache: Any) -> PromptCache | None:
    """What the layers of `cache` carry, if a prompt was read into it inside a `prune` context."""
    layers = getattr(cache, "layers", None)
    return getattr(layers[0], "prompt", None) if layers else None


def mark(cache: Any, prompt: PromptCache) -> None:
    """Make the layers of `cache`, which `prompt` has just filled, carry it."""
    for layer in cache.layers:
        layer.__class__, layer.prompt = PrunedLayer, prompt


def require_dynamic(cache: Any) -> None:
    """Refuse a cache that does not keep what it is given as it is, for each layer apart.

    Raises:
        PruningError: it is static, quantised, offloaded, or of another kind.
    """
    if getattr(cache, "is_compileable", False):
        kind = "a static cache"
    elif getattr(cache, "offloading", False):
        kind = "an offloaded cache"
    else:
        kinds = {*map(type, cache.layers), getattr(cache, "layer_class_to_replicate", None)}
        others = sorted(str(kind.__name__) for kind in kinds - {DynamicLayer, PrunedLayer} if kind is not None)
        if not others:
            return
        kind = f"a cache of {others[0]}"
    raise PruningError(f"{kind} cannot hold layers of different lengths", hint="use a DynamicCache")


class DecodeStep:
    """New tokens on their way through the decoder: made when they enter, dropped at the end.

    Args:
        context: whose cache it has to be.
        cache: the cache they continue.
        tree: how they see each other; None: one after the other.
        tokens: the new ones, (batch, queries, ...).
        mask: the attention mask given for the tokens so far, (batch, n), or None.

    Raises:
        PruningError: `cache` was not filled in this context, or the tokens are not those that follow.
    """

    def __init__(
        self, decoder: Decoder, context: str, cache: Any, tree: TokenTree | None, tokens: Tensor, mask: Tensor | None
    ) -> None:
        prompt, (batch, queries) = prompt_of(cache), tokens.shape[:2]
        if prompt is None or prompt.context != context:
            raise PruningError(
                "this cache was not filled inside this prune context",
                hint="read the whole prompt inside the context, in one pass, before continuing it",
            )
        if batch != len(prompt.layers[0].spans):
            raise PruningError(f"a cache of {len(prompt.layers[0].spans)} prompts is continued by {batch}")
        known = prompt.read(cache)
        if mask is not None and mask.ndim == 2 and mask.shape[1] != known + queries:
            raise PruningError(
                f"{queries} tokens and a mask of {mask.shape[1]} do not continue a prompt of {known} tokens, of which "
                f"the first layer's cache holds {int(cache.get_seq_length())}",
                hint="read all turns anew, or take a method that does not cut before the decoder",
            )
        self.decoder, self.prompt, self.cache, self.tree = decoder, prompt, cache, tree
        # The model counts on behind padding on the right; and positions of three axes hang on a number that it keeps of
        # its latest prompt, of whichever thread.
        padded = any(end < prompt.layers[0].width for _, end in prompt.layers[0].spans)
        self.own_positions = prompt.cut and (decoder.multi_axis or padded)
        self.tables: dict[Any, tuple[Tensor, Tensor]] = {}
        self.arguments: dict[Any, dict[str, Any]] = {}
        _reading.prompt = prompt

    def enter(self, layer: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Arguments of `layer` for new tokens of shape (batch, q, d); the model's own where those are right."""
        shape = self.prompt.layers[layer]
        if not (shape.cut or self.tree or self.own_positions):
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
