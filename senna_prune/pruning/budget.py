"""What a method may spend: mean visual tokens entering a decoder layer, real FLOPs or milliseconds."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from senna_prune.cost import DecoderCost
from senna_prune.errors import PruningError, nearest_of
from senna_prune.pruning.base import LayerCounts
from senna_prune.pruning.options import shown

Accounting = Literal["entering", "published"]
Kind = Literal["retention", "tokens", "flops", "milliseconds"]
TOLERANCE = 0.005
"""A budget counts as met within this relative error."""


@dataclass(frozen=True)
class Budget:
    """One budget for all methods; build it with `retention`, `tokens`, `flops` or `milliseconds`.

    Attributes:
        kind: the unit of `value`.
        value: a fraction (retention, FLOPs), a mean number of tokens, or milliseconds.
        accounting: "entering" counts the tokens that enter layers, exactly; "published" leaves the counting to each
            method's own arithmetic.
        cost: layer cost, for FLOPs.
        profile: measured (milliseconds, retention) pairs, both rising, for milliseconds.
    """

    kind: Kind
    value: float
    accounting: Accounting = "entering"
    cost: DecoderCost | None = None
    profile: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            hint = nearest_of(str(self.kind), get_args(Kind))
            raise PruningError(f"unknown kind {shown(self.kind)}", where="budget", hint=hint)
        object.__setattr__(self, "value", _positive(self.value, f"budget.{self.kind}"))
        if self.kind in ("retention", "flops") and self.value > 1:
            raise PruningError(
                f"{self.value} is above 1", where=f"budget.{self.kind}", hint="give a fraction in (0, 1]"
            )
        if self.accounting not in ("entering", "published"):
            raise PruningError(
                f"unknown accounting {shown(self.accounting)}",
                where="budget.accounting",
                hint="use entering or published",
            )
        if self.accounting == "published" and self.kind == "flops":
            raise PruningError(
                "no method publishes its own FLOPs counting", where="budget.accounting", hint="use entering with FLOPs"
            )
        if self.kind == "flops" and not isinstance(self.cost, DecoderCost):
            raise PruningError("the cost of a layer is not given", where="budget.flops", hint="give a DecoderCost")
        if self.kind == "milliseconds" and len(self.profile) < 2:
            raise PruningError("a profile needs two points", where="budget.profile", hint="measure more retentions")

    @classmethod
    def retention(cls, fraction: float, accounting: Accounting = "entering") -> Budget:
        """A fraction of the visual tokens, mean over layers."""
        return cls("retention", fraction, accounting)

    @classmethod
    def tokens(cls, mean: float, accounting: Accounting = "entering") -> Budget:
        """A mean number of visual tokens per layer, over all views of a sample."""
        return cls("tokens", mean, accounting)

    @classmethod
    def flops(cls, fraction: float, cost: DecoderCost) -> Budget:
        """A fraction of the unpruned decoder's prefill FLOPs (text included)."""
        return cls("flops", fraction, cost=cost)

    @classmethod
    def milliseconds(cls, time: float, profile: Mapping[float, float], accounting: Accounting = "entering") -> Budget:
        """A prefill time.

        Args:
            time: milliseconds.
            profile: measured milliseconds by retention, at two points at least. Between points it is interpolated
                linearly; a point faster than one at lower retention counts as noise and is raised to it.

        Raises:
            PruningError: fewer than two points, a point that is not two numbers above 0, or `time` below the fastest
                of them.
        """
        if not isinstance(profile, Mapping):
            hint = "map retentions to measured milliseconds"
            raise PruningError(f"{shown(profile)} is no profile", where="budget.profile", hint=hint)
        measurements = sorted(
            (_positive(fraction, "budget.profile"), _positive(measured, "budget.profile"))
            for fraction, measured in profile.items()
        )
        points: list[tuple[float, float]] = []
        for fraction, measured in measurements:
            points.append((max(measured, points[-1][0] if points else measured), fraction))
        time = _positive(time, "budget.milliseconds")
        if points and time < points[0][0]:
            raise PruningError(
                f"{time} ms is below the fastest measured point, {points[0][0]:g} ms at retention {points[0][1]:g}",
                where="budget.milliseconds",
                hint="raise the budget or measure lower retentions",
            )
        return cls("milliseconds", time, accounting, profile=tuple(points))

    def layer_cost(self, visual: float) -> float:
        """What `visual` tokens entering a layer take from the budget, in the budget's unit (tokens or FLOPs)."""
        return self.cost.layer(visual) if self.cost else visual

    def cost_of(self, counts: LayerCounts) -> float:
        """What counts per layer take, summed over layers."""
        return sum(map(self.layer_cost, counts.tokens[:-1]))

    def total(self, num_visual: int, num_layers: int) -> float:
        """What all layers may take together, in the unit of `layer_cost`."""
        if self.cost:
            return self.value * num_layers * self.cost.layer(num_visual)
        return self.mean_tokens(num_visual) * num_layers

    def mean_tokens(self, num_visual: int) -> float:
        """Tokens per layer that use up the budget when every layer gets the same number, in [0, num_visual]."""
        if self.kind == "tokens":
            return min(self.value, float(num_visual))
        if self.kind == "retention":
            return self.value * num_visual
        if self.kind == "milliseconds":
            return self._profiled_retention() * num_visual
        assert self.cost is not None
        cost, allowed = self.cost, self.value * self.cost.layer(num_visual)
        return bisect_rising(cost.layer, 0.0, float(num_visual), allowed)

    def _profiled_retention(self) -> float:
        times = [time for time, _ in self.profile]
        right = bisect.bisect_right(times, self.value)
        if right == len(times):
            return self.profile[-1][1]
        (time0, fraction0), (time1, fraction1) = self.profile[right - 1], self.profile[right]
        return fraction0 + (fraction1 - fraction0) * (self.value - time0) / (time1 - time0)


def _positive(value: object, where: str) -> float:
    """A number above 0 as a float, whatever numeric type it has.

    Raises:
        PruningError: it is none.
    """
    try:
        number = math.nan if isinstance(value, str | bytes | bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        number = math.nan
    if not 0 < number < math.inf:
        raise PruningError(f"{shown(value)} is not a number above 0", where=where, hint="correct it")
    return number


def bisect_rising(
    function: Callable[[float], float], low: float, high: float, target: float, steps: int = 60, tolerance: float = 0.0
) -> float:
    """Argument in [low, high] whose value is nearest to `target`, for a function that does not fall; stops early
    within the relative `tolerance`."""
    best, error = low, abs(function(low) - target)
    for argument in (high, *([None] * steps)):
        middle = 0.5 * (low + high) if argument is None else argument
        value = function(middle)
        if abs(value - target) < error:
            best, error = middle, abs(value - target)
        if error <= tolerance * abs(target):
            break
        if argument is None:
            low, high = (middle, high) if value < target else (low, middle)
    return best
