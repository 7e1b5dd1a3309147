"""How many visual tokens enter each layer: the solver that all methods share, and the schedules that several use."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from senna_prune.errors import PruningError
from senna_prune.pruning.base import LayerCounts
from senna_prune.pruning.budget import TOLERANCE, Budget, bisect_rising

QUANTISED_STEPS = 320
"""Complexities that `Quantised` compares."""


@dataclass(frozen=True)
class Resolution:
    """Counts per layer and how they were found; what `--explain` prints.

    Attributes:
        plan: visual tokens per layer.
        parameter: the free parameter that was solved for, in words.
        target: mean tokens (or FLOPs) per layer the budget allows.
        reached: the same for the counts found.
        note: why the budget is missed, if it is; else empty.
    """

    plan: LayerCounts
    parameter: str
    target: float
    reached: float
    note: str = ""


class Schedule(ABC):
    """Decides how many visual tokens enter each layer.

    Attributes:
        budget: what it may spend.
        has_own_accounting: whether the method publishes another way of counting than tokens entering layers.
    """

    budget: Budget
    has_own_accounting: ClassVar[bool] = False

    @property
    def adapts_up_to(self) -> float:
        """Counts change with complexity from 0 up to this number, and with none above it."""
        return 0.0

    def plan(self, num_visual: int, num_layers: int, complexity: float | None = None) -> LayerCounts:
        """Counts per layer.

        `complexity` is None before it has been measured; the counts up to boundary `complexity.layer` must then already
        be final. From boundary `complexity.layer + 1` on the engine uses the counts computed with the number.
        """
        return self.resolve(num_visual, num_layers, complexity).plan

    @abstractmethod
    def resolve(self, num_visual: int, num_layers: int, complexity: float | None = None) -> Resolution:
        """The counts with the free parameter and, where the budget is missed, the reason.

        Raises:
            PruningError: the complexity is not finite.
        """


class BudgetedSchedule(Schedule):
    """A schedule with one free parameter, solved so that the budget is met. Subclasses are frozen dataclasses with a
    field `budget`."""

    def resolve(self, num_visual: int, num_layers: int, complexity: float | None = None) -> Resolution:
        """See `Schedule.resolve`."""
        if complexity is not None and not math.isfinite(complexity):
            raise PruningError(f"the complexity is {complexity}", hint="load the model in bfloat16 or float32")
        if self.budget.mean_tokens(num_visual) >= num_visual and not self.fixed:
            counts, parameter = keep_all(num_visual, num_layers), "keeps all"
        else:
            counts, parameter = self._solve(num_visual, num_layers, complexity)
        target = self.budget.total(num_visual, num_layers) / num_layers
        reached = self.budget.cost_of(counts) / num_layers
        return Resolution(counts, parameter, target, reached, self._reason(counts, num_visual, target, reached))

    @property
    def fixed(self) -> bool:
        """Whether options set the counts, so that nothing is left to solve."""
        return False

    @abstractmethod
    def _solve(self, num_visual: int, num_layers: int, complexity: float | None) -> tuple[LayerCounts, str]:
        """Counts and solved parameter, in words, for a budget below `num_visual`."""

    def _fit(self, counts_at: Callable[[float], LayerCounts], low: float, high: float) -> float:
        """The argument in [low, high] whose counts come nearest to the budget; counts must not fall as it rises."""
        widest = counts_at(high)
        total = self.budget.total(widest.tokens[0], len(widest.tokens) - 1)
        return bisect_rising(
            lambda argument: self.budget.cost_of(counts_at(argument)), low, high, total, tolerance=TOLERANCE / 10
        )

    def _reason(self, counts: LayerCounts, num_visual: int, target: float, reached: float) -> str:
        if abs(reached - target) <= TOLERANCE * target:
            return ""
        if self.fixed:
            return "counts are fixed by options"
        if self.budget.accounting == "published" and self.has_own_accounting:
            return "published accounting: not solved for tokens entering layers"
        if self.budget.layer_cost(0) > target:
            return "nearest reachable: the text alone costs more than the budget"
        num_layers = len(counts.tokens) - 1
        first = next((layer for layer, count in enumerate(counts.tokens) if count < num_visual), num_layers)
        if reached > target and self.budget.layer_cost(num_visual) * first > 0.8 * target * num_layers:
            return f"nearest reachable: layers 0 to {first - 1} come before the first cut and take most of the budget"
        if sum(self.budget.layer_cost(count + 1) for count in counts.tokens[:-1]) < target * num_layers:
            return "nearest reachable: the schedule falls too steeply to spend more"
        return "nearest reachable: token counts are whole numbers"


@dataclass(frozen=True)
class Quantised(Schedule):
    """Another schedule at as few complexities as suffice: every schedule costs a compilation.

    Each complexity stands for its neighbours, whose counts differ from its own by at most `tolerance` of the visual
    tokens, on average over layers. AutoPrune over 32 layers needs 6 to 15 of them, 8 at 25 % of 768 tokens.

    Attributes:
        inner: that schedule.
        tolerance: share of the visual tokens.
    """

    inner: Schedule
    tolerance: float = 0.01
    _levels: dict[tuple[int, int], list[tuple[float, float]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def budget(self) -> Budget:  # type: ignore[override]
        return self.inner.budget

    def resolve(self, num_visual: int, num_layers: int, complexity: float | None = None) -> Resolution:
        """See `Schedule.resolve`."""
        if complexity is not None and math.isfinite(complexity):
            given, levels = complexity, self.levels(num_visual, num_layers)
            complexity = next((level for end, level in levels if given <= end), levels[-1][1])
        return self.inner.resolve(num_visual, num_layers, complexity)

    def levels(self, num_visual: int, num_layers: int) -> list[tuple[float, float]]:
        """Ends of intervals of complexity, ascending, and the complexity that each interval is taken for."""
        known = (num_visual, num_layers)
        if known not in self._levels:
            grid = [self.inner.adapts_up_to * number / QUANTISED_STEPS for number in range(QUANTISED_STEPS + 1)]
            counts = [self.inner.plan(num_visual, num_layers, complexity).tokens[:-1] for complexity in grid]
            allowed = self.tolerance * num_visual * num_layers

            def near(a: int, b: int) -> bool:
                return sum(abs(x - y) for x, y in zip(counts[a], counts[b], strict=True)) <= allowed

            self._levels[known], first = [], 0
            while first <= QUANTISED_STEPS:
                level = first
                while level < QUANTISED_STEPS and all(near(n, level + 1) for n in range(first, level + 1)):
                    level += 1
                end = level
                while end < QUANTISED_STEPS and near(level, end + 1):
                    end += 1
                middle = (grid[end] + grid[min(end + 1, QUANTISED_STEPS)]) / 2
                self._levels[known].append((middle, grid[level]))
                first = end + 1
        return self._levels[known]


def keep_all(num_visual: int, num_layers: int) -> LayerCounts:
    """Every token through every layer."""
    return LayerCounts((num_visual,) * (num_layers + 1), (0,) * (num_layers + 1))


def step_counts(num_visual: int, num_layers: int, cuts: dict[int, int]) -> LayerCounts:
    """No merging; `cuts[b]` tokens from boundary b on, never more than before it; boundaries beyond the last layer are
    ignored."""
    tokens, current = [], num_visual
    for boundary in range(num_layers + 1):
        if boundary < num_layers:
            current = min(current, cuts.get(boundary, current))
        tokens.append(current)
    return LayerCounts(tuple(tokens), (0,) * (num_layers + 1))


@dataclass(frozen=True)
class Control(Schedule):
    """A control that ignores the budget: every token enters every layer, or (`blind`) none enters any."""

    budget: Budget
    blind: bool = False

    def resolve(self, num_visual: int, num_layers: int, complexity: float | None = None) -> Resolution:
        """See `Schedule.resolve`."""
        counts = keep_all(0 if self.blind else num_visual, num_layers)
        target = self.budget.total(num_visual, num_layers) / num_layers
        parameter = "keeps none" if self.blind else "keeps all"
        return Resolution(counts, parameter, target, self.budget.cost_of(counts) / num_layers, "ignores the budget")


@dataclass(frozen=True)
class SingleCut(BudgetedSchedule):
    """One cut at one boundary; the free parameter is the count behind it.

    Attributes:
        boundary: decoder layer before which the cut is made; 0 is before the decoder.
        count: a fixed count, or None to solve for the budget.
        merged_share: share of the count that are merged tokens, rounded down.
    """

    budget: Budget
    boundary: int = 0
    count: int | None = None
    merged_share: float = 0.0

    @property
    def fixed(self) -> bool:
        return self.count is not None

    def _solve(self, num_visual: int, num_layers: int, complexity: float | None) -> tuple[LayerCounts, str]:
        def counts_at(count: float) -> LayerCounts:
            counts = step_counts(num_visual, num_layers, {self.boundary: round(count)})
            left = counts.tokens[-1]
            merged = [0] * (num_layers + 1)
            if left < num_visual:
                merged[self.boundary] = int(left * self.merged_share)
            return LayerCounts(counts.tokens, tuple(merged))

        count = self.count if self.count is not None else self._fit(counts_at, min(1, num_visual), num_visual)
        return counts_at(count), f"{round(count)} tokens from layer {self.boundary} on"
