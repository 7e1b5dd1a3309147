"""Decoding after a pruned prefill: every layer continues from its own cache length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from senna_prune.engine.decoder import Decoder
from senna_prune.engine.masks import attention_mask


@dataclass(frozen=True)
class LayerShape:
    """What one layer's cache held right after prefill: real tokens per sample, padded to the longest."""

    lengths: tuple[int, ...]
    pruned: bool

    @property
    def width(self) -> int:
        return max(self.lengths)


class DecodeShapes:
    """Positions and masks of the tokens that follow the prompt."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.repacked = False
        self.prompt_lengths: list[int] = []
        self.layers: list[LayerShape] = []
        self.cache: Any = None
        self._memo: dict[Any, dict[str, Any]] = {}

    def reset(self, prompt_lengths: list[int], repacked: bool) -> None:
        """A new prefill begins. `prompt_lengths`: tokens of each unpruned prompt."""
        self.prompt_lengths, self.repacked, self.layers, self.cache = prompt_lengths, repacked, [], None

    def record(self, layer: int, lengths: list[int], *, pruned: bool) -> None:
        """`lengths` tokens of each sample enter `layer`."""
        assert layer == len(self.layers)
        self.layers.append(LayerShape(tuple(lengths), pruned))

    def lengths(self) -> list[list[int]]:
        """Cache lengths without padding, (L, batch)."""
        return [list(layer.lengths) for layer in self.layers]

    def begin(self, cache: Any) -> None:
        """A decoding step begins on `cache`."""
        self.cache, self._memo = cache, {}

    def overrides(self, layer: int, hidden: Tensor) -> dict[str, Any]:
        """Layer arguments for new tokens of shape (batch, q, d); empty where the layer saw the whole prompt."""
        if layer >= len(self.layers) or not self.layers[layer].pruned:
            return {}
        shape, queries = self.layers[layer], hidden.shape[1]
        seen = int(self.cache.get_seq_length(layer))
        key = (shape.lengths, seen, queries)
        if key not in self._memo:
            self._memo[key] = self._write(shape, seen, hidden)
        return self._memo[key]

    def _write(self, shape: LayerShape, seen: int, hidden: Tensor) -> dict[str, Any]:
        queries, device = hidden.shape[1], hidden.device
        step = seen - shape.width
        first = list(shape.lengths) if self.repacked else self.prompt_lengths
        starts = torch.tensor([begin + step for begin in first], device=device)
        positions = starts[:, None] + torch.arange(queries, device=device)
        cos, sin = self.decoder.rotary(hidden, positions)
        keys = seen + queries
        return {
            "attention_mask": attention_mask(
                [length + step + queries for length in shape.lengths],
                keys,
                queries,
                implementation=self.decoder.attention,
                dtype=hidden.dtype,
                device=device,
            ),
            "position_embeddings": (cos, sin),
            "position_ids": torch.arange(seen, keys, device=device)[None],
        }
