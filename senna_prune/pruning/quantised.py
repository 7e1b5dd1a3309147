"""A pruner at as few complexities as suffice: every schedule costs a compilation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from senna_prune.pruning.base import Method
from senna_prune.pruning.budget import LayerCounts

STEPS = 320
"""Complexities that are compared on either side of 0."""


@dataclass(frozen=True)
class Quantised:
    """Acts as `pruner`, but each complexity stands for its neighbours: counts differ from the exact ones by at most
    `tolerance` of the visual tokens, on average over layers.

    AutoPrune over 32 layers needs 6 to 15 schedules, 8 at 25 % of 768 tokens, and some more below complexity 0.
    """

    pruner: Method
    tolerance: float = 0.01
    _levels: dict[tuple[object, ...], list[tuple[float, float]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # a copy asks for these before it has a pruner
            raise AttributeError(name)
        return getattr(self.pruner, name)

    def plan(
        self, num_visual: int, num_layers: int, complexity: float | None = None, text: int | None = None
    ) -> LayerCounts:
        """See `Method.plan`."""
        if complexity is None or not math.isfinite(complexity):
            return self.pruner.plan(num_visual, num_layers, complexity, text)
        sign = -1 if complexity < 0 else 1
        levels = self.levels(num_visual, num_layers, text, sign)
        level = next((level for end, level in levels if abs(complexity) <= end), levels[-1][1])
        counts = self.pruner.plan(num_visual, num_layers, sign * level, text)
        if abs(complexity) > self.pruner.max_complexity:
            exact = self.pruner.plan(num_visual, num_layers, complexity, text)
            return counts if self._near(counts, exact) else exact
        return counts

    def levels(
        self, num_visual: int, num_layers: int, text: int | None = None, sign: int = 1
    ) -> list[tuple[float, float]]:
        """Ends of intervals of the complexity's size, ascending, and the size that each is taken for; `sign` is the
        complexity's."""
        asked = (num_visual, num_layers, text if self.pruner.budget.cost else None, sign)
        if asked not in self._levels:
            self._levels[asked] = list(self._found(*asked))
        return self._levels[asked]

    def _found(self, num_visual: int, num_layers: int, text: int | None, sign: int) -> Iterator[tuple[float, float]]:
        grid = [self.pruner.max_complexity * number / STEPS for number in range(STEPS + 1)]
        counts = [self.pruner.plan(num_visual, num_layers, sign * size, text) for size in grid]
        first = 0
        while first <= STEPS:
            level = first
            while level < STEPS and all(self._near(counts[n], counts[level + 1]) for n in range(first, level + 1)):
                level += 1
            end = level
            while end < STEPS and self._near(counts[level], counts[end + 1]):
                end += 1
            yield (grid[end] + grid[min(end + 1, STEPS)]) / 2, grid[level]
            first = end + 1

    def _near(self, a: LayerCounts, b: LayerCounts) -> bool:
        apart = sum(abs(x - y) for x, y in zip(a.tokens[:-1], b.tokens[:-1], strict=True))
        return apart <= self.tolerance * max(a.tokens[0], b.tokens[0]) * (len(a.tokens) - 1)
