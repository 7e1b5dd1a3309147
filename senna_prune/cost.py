"""What a decision costs, in plain numbers: real FLOPs by stage and bytes of the key-value cache.

Real FLOPs are two per multiply-accumulate and cover matrix products only. Attention is counted in full, without the
causal half saved, as the published formula 4nd^2 + 2n^2 d + 3ndm does (which counts multiply-accumulates).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A whole number that numpy holds."""


class ModelShape(Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers of a Senna that decide its cost.

    Attributes:
        views: cameras. patches: patches per view, without the class token. patch_values: 3 * patch size squared.
        vision_width, vision_mlp, vision_layers: of the tower; only layers that run.
        view_tokens: visual tokens per view behind the adapter.
        width, mlp, layers, vocabulary: of the decoder.
        query_width, key_width: heads * head size of queries, and of keys and values.
        value_bytes: bytes of one cached number.
    """

    views: Count
    patches: Count
    patch_values: Count
    vision_width: Count
    vision_mlp: Count
    vision_layers: Count
    view_tokens: Count
    width: Count
    mlp: Count
    layers: Count
    vocabulary: Count
    query_width: Count
    key_width: Count
    value_bytes: Count

    @property
    def num_visual(self) -> int:
        return self.views * self.view_tokens

    def decoder_cost(self, text: int) -> DecoderCost:
        """Cost of one decoder layer beside `text` text tokens, for a FLOPs budget."""
        return DecoderCost(self.width, self.mlp, text, self.query_width, self.key_width)


@dataclass(frozen=True)
class Flops:
    """Real FLOPs of one decision by stage."""

    vision: float
    projection: float
    decoder: float
    readout: float

    @property
    def total(self) -> float:
        return self.vision + self.projection + self.decoder + self.readout


def vision_flops(shape: ModelShape) -> float:
    """Patch embedding and the tower's layers, over all views."""
    n, w, m = shape.patches + 1, shape.vision_width, shape.vision_mlp
    layer = 4 * n * w * w + 2 * n * n * w + 2 * n * w * m
    return 2.0 * shape.views * (shape.patches * shape.patch_values * w + shape.vision_layers * layer)


def projection_flops(shape: ModelShape) -> float:
    """Projector over patches and adapter over the token axis, over all views."""
    projector = shape.patches * (shape.vision_width * shape.width + shape.width**2)
    adapter = shape.width * (shape.patches * shape.view_tokens + 2 * shape.view_tokens**2)
    return 2.0 * shape.views * (projector + adapter)


def _layer_flops(width: int, mlp: int, query_width: int, key_width: int, tokens: float, attended: float) -> float:
    """One decoder layer on `tokens` positions that attend to `attended` pairs in all."""
    projections = tokens * width * 2 * (query_width + key_width)
    return 2.0 * (projections + 2 * attended * query_width + 3 * tokens * width * mlp)


@dataclass(frozen=True)
class DecoderCost:
    """Prefill cost of one decoder layer, the unit of a FLOPs budget.

    Attributes:
        hidden: model width d.
        intermediate: width m of the gated MLP.
        text: text tokens that stand beside the visual ones; `prune` counts each sample's own in their place.
        query_width, key_width: heads * head size of queries, and of keys and values; None is `hidden`.
    """

    hidden: int
    intermediate: int
    text: int
    query_width: int | None = None
    key_width: int | None = None

    def layer(self, visual: float) -> float:
        """Real FLOPs over n = text + visual tokens: 2 (4 n d^2 + 2 n^2 d + 3 n d m) where all widths are d.

        The papers count multiply-accumulates, half of it.
        """
        d, n = self.hidden, self.text + visual
        return _layer_flops(d, self.intermediate, self.query_width or d, self.key_width or d, n, n * n)


def decoder_flops(shape: ModelShape, entering: Sequence[int], text: int, causal: bool = False) -> float:
    """Prefill, given the visual tokens that enter each layer and the text tokens beside them.

    `causal`: count only the pairs that a token may attend to, which is what SDPA and flash kernels compute.
    """
    lengths = [text + visual for visual in entering]
    widths = (shape.width, shape.mlp, shape.query_width, shape.key_width)
    return sum(_layer_flops(*widths, n, n * (n + 1) / 2 if causal else n**2) for n in lengths)


def readout_flops(shape: ModelShape, entering: Sequence[int], text: int, positions: int) -> float:
    """Reading the answer off: `positions` tokens run after the prompt, one by one or in one pass, and the head on them
    and on the prompt's last token."""
    layers, widths = 0.0, (shape.width, shape.mlp, shape.query_width, shape.key_width)
    for visual in entering:
        attended = positions * (text + visual) + positions * (positions + 1) / 2
        layers += _layer_flops(*widths, positions, attended)
    return layers + 2.0 * (positions + 1) * shape.width * shape.vocabulary


def decision_flops(shape: ModelShape, entering: Sequence[int], text: int, positions: int) -> Flops:
    """Everything one decision costs when nothing is shared with other methods.

    Without visual tokens (`blind`) the cameras need not be looked at.
    """
    sees = any(entering)
    return Flops(
        vision=vision_flops(shape) if sees else 0.0,
        projection=projection_flops(shape) if sees else 0.0,
        decoder=decoder_flops(shape, entering, text),
        readout=readout_flops(shape, entering, text, positions),
    )


def kv_bytes(shape: ModelShape, entering: Sequence[int], text: int) -> int:
    """Keys and values held by all layers right after prefill."""
    return sum(2 * (text + visual) * shape.key_width * shape.value_bytes for visual in entering)
