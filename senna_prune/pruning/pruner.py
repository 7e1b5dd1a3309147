"""What `prune` asks of a pruner."""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

from torch import Tensor

from senna_prune.pruning.base import LayerCounts, Observation, Positions, Selection, TextScope


class Pruner(Protocol):
    """A `Method` bound to a decoder, or whatever acts like one. See there for what each part means."""

    @property
    def name(self) -> str: ...
    @property
    def needs(self) -> Set[str]: ...
    @property
    def positions(self) -> Positions: ...
    @property
    def text_scope(self) -> TextScope: ...
    @property
    def measured_layer(self) -> int | None: ...

    def complexity(self, seen: Observation) -> Tensor: ...

    def plan(
        self, num_visual: int, num_layers: int, complexity: float | None = None, text: int | None = None
    ) -> LayerCounts: ...

    def select(self, seen: Observation, keep_total: int, merged: int) -> Selection: ...
