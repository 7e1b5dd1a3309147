"""What a method may spend: mean visual tokens entering a decoder layer, real FLOPs or milliseconds."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Literal, get_args

from senna_prune.cost import DecoderCost
from senna_prune.errors import PruningError, brief, one_of, require

Accounting = Literal["entering", "published"]
Kind = Literal["retention", "tokens", "flops", "milliseconds"]
TOLERANCE = 0.005
"""A budget counts as met within this relative error."""


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

    @classmethod
    def of_cuts(cls, num_visual: int, num_layers: int, cuts: Mapping[int, int] | None = None) -> LayerCounts:
        """No merging; `cuts[b]` tokens from boundary b on, never more than before it; without cuts all are kept."""
        tokens = [num_visual]
        for boundary in range(num_layers):
            tokens.append(min(tokens[-1], (cuts or {}).get(boundary, tokens[-1])))
        return cls((*tokens[1:], tokens[-1]), (0,) * (num_layers + 1))

    @property
    def entering(self) -> float:
        """Mean over layers of the tokens entering it."""
        return sum(self.tokens[:-1]) / (len(self.tokens) - 1)

    @property
    def after(self) -> float:
        """Mean over layers of the tokens after it, as publications count."""
        return sum(self.tokens[1:]) / (len(self.tokens) - 1)


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
        one_of(self.kind, get_args(Kind), "budget", "kind", PruningError)
        object.__setattr__(self, "value", _positive(self.value, f"budget.{self.kind}"))
        if self.kind in ("retention", "flops") and self.value > 1:
            where, hint = f"budget.{self.kind}", "give a fraction in (0, 1]"
            raise PruningError(f"{self.value} is above 1", where=where, hint=hint)
        where = "budget.accounting"
        one_of(self.accounting, get_args(Accounting), where, "accounting", PruningError)
        if self.accounting == "published" and self.kind == "flops":
            raise PruningError("no method publishes its own FLOPs counting", where=where, hint="use entering")
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
        """A fraction of the unpruned decoder's prefill FLOPs, text included: each sample's own while it is pruned, that
        of `cost` where no sample is known."""
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
            raise PruningError(f"{brief(profile)} is no profile", where="budget.profile", hint=hint)
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

    def beside(self, text: int | None) -> Budget:
        """This budget for a sample of `text` text tokens, which FLOPs count; None leaves it as it is."""
        return self if self.cost is None or text is None else replace(self, cost=replace(self.cost, text=text))

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

    def fit(self, counts_at: Callable[[float], LayerCounts], low: float, high: float) -> float:
        """The argument in [low, high] whose counts come nearest to the budget; counts must not fall as it rises."""
        tokens = counts_at(high).tokens
        total = self.total(tokens[0], len(tokens) - 1)
        return bisect_rising(lambda x: self.cost_of(counts_at(x)), low, high, total, tolerance=TOLERANCE / 10)

    def one_cut(
        self, num_visual: int, num_layers: int, boundary: int, count: int | None = None, merged_share: float = 0.0
    ) -> tuple[LayerCounts, str]:
        """Counts of one cut before layer `boundary`, and the count behind it in words.

        Args:
            num_visual, num_layers: of the sample and the decoder.
            boundary: 0 is before the decoder.
            count: a fixed count; by default what the budget allows.
            merged_share: share of the count that are merged tokens, rounded down.
        """

        def counts_at(count: float) -> LayerCounts:
            tokens = LayerCounts.of_cuts(num_visual, num_layers, {boundary: round(count)}).tokens
            merged = [0] * len(tokens)
            merged[boundary] = int(tokens[-1] * merged_share) if tokens[-1] < num_visual else 0
            return LayerCounts(tokens, tuple(merged))

        found = self.fit(counts_at, min(1, num_visual), num_visual) if count is None else count
        return counts_at(found), f"{round(found)} tokens from layer {boundary} on"

    def judged(self, counts: LayerCounts, parameter: str, num_visual: int, unsolved: str = "") -> Resolution:
        """Counts with what they reach and, where that is not the budget, why: `unsolved` where nothing was solved."""
        num_layers = len(counts.tokens) - 1
        target, reached = self.total(num_visual, num_layers) / num_layers, self.cost_of(counts) / num_layers
        met = abs(reached - target) <= TOLERANCE * target
        note = "" if met else unsolved or f"nearest reachable: {self._why(counts, num_visual, target, reached)}"
        return Resolution(counts, parameter, target, reached, note)

    def _why(self, counts: LayerCounts, num_visual: int, target: float, reached: float) -> str:
        if self.layer_cost(0) > target:
            return "the text alone costs more than the budget"
        num_layers = len(counts.tokens) - 1
        first = next((layer for layer, count in enumerate(counts.tokens) if count < num_visual), num_layers)
        if reached > target and self.layer_cost(num_visual) * first > 0.8 * target * num_layers:
            return f"layers 0 to {first - 1} come before the first cut and take most of the budget"
        if sum(self.layer_cost(count + 1) for count in counts.tokens[:-1]) < target * num_layers:
            return "the schedule falls too steeply to spend more"
        return "token counts are whole numbers"

    def _profiled_retention(self) -> float:
        right = bisect.bisect_right(self.profile, self.value, key=itemgetter(0))
        if right == len(self.profile):
            return self.profile[-1][1]
        (time0, fraction0), (time1, fraction1) = self.profile[right - 1 : right + 1]
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
    require(0 < number < math.inf, where, value, "a number above 0", PruningError, "correct it")
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
