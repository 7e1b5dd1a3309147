"""AutoPrune's retention curves: complexity -> slope -> tokens per layer, as released and as printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from senna_prune.pruning.budget import Budget
from senna_prune.pruning.interface import LayerPlan
from senna_prune.pruning.schedules import BudgetedSchedule, merged_count

Shape = Literal["logistic", "tanh", "linear", "exponential"]
Slope = Literal["linear", "linear_discrete", "logistic"]

REFERENCE_LAYERS = 32
"""Depth that the published k0, gamma and x0 belong to."""
PLATEAU = 0.75
"""Height of the released logistic."""
CAP = 2.5
"""The released code lets at most this multiple of the target through layer 0."""


def curve(shape: Shape, depth: float, k: float, x0: float) -> float:
    """Share of tokens at a depth, in [0, 1], falling for k > 0 and flat for k = 0; `depth` may exceed the reference.

    The paper ablates four shapes (Table 4b) and prints the logistic alone (Eq. 5). Ours: the hyperbolic tangent is
    half at the same x0; the line joins the logistic's values at both ends of the reference depth and goes on down to 0;
    the exponential falls from depth 0.
    """
    if shape == "linear":
        start, end = _line_ends(k, x0)
        return max(start + (end - start) * depth / REFERENCE_LAYERS, 0.0)
    if shape == "tanh":
        return _logistic(2 * k * (depth - x0))
    if shape == "exponential":
        return math.exp(-min(k * depth, 700.0))
    return _logistic(k * (depth - x0))


def curve_area(shape: Shape, k: float, x0: float, depth: float) -> float:
    """Integral of `curve` from 0 to `depth`; for the logistic Eq. 6 over N_init, with its limit at k = 0."""
    if shape == "linear":
        start, end = _line_ends(k, x0)
        base = min(depth, REFERENCE_LAYERS * start / (start - end)) if start > end else depth
        return 0.5 * base * (start + curve(shape, base, k, x0))
    if abs(k) < 1e-9:
        return depth * curve(shape, 0.0, k, x0)
    if shape == "exponential":
        return -math.expm1(-k * depth) / k
    k = 2 * k if shape == "tanh" else k
    return depth - (_softplus(k * (depth - x0)) - _softplus(-k * x0)) / k


def _line_ends(k: float, x0: float) -> tuple[float, float]:
    """Values of the linear curve at depth 0 and at the reference depth."""
    return _logistic(-k * x0), _logistic(k * (REFERENCE_LAYERS - x0))


def _logistic(z: float) -> float:
    """1 / (1 + e^z) without overflow."""
    return 1.0 / (1.0 + math.exp(min(z, 700.0)))


def _softplus(z: float) -> float:
    """ln(1 + e^z) without overflow."""
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def dynamic_slope(complexity: float, k0: float, gamma: float, mode: Slope = "linear") -> float:
    """Eq. 8, k = k0 - gamma I, not below 0 as released; or the released alternatives: rounded to 0.05, or a rising
    logistic of I that ignores k0 and gamma."""
    if mode == "logistic":
        return _logistic(-1.35 * (complexity - 0.77))
    slope = max(k0 - gamma * complexity, 0.0)
    return round(slope / 0.05) * 0.05 if mode == "linear_discrete" else slope


def simulate(first: int, keeps: Sequence[int]) -> LayerPlan:
    """Counts when at most `keeps[i]` of the current tokens stay after layer i + 1 and some of the others are merged.

    Args:
        first: tokens entering layer 1.
        keeps: one per layer from 1 on, shape (L - 1,).

    Returns:
        A plan whose first entry (layer 0) repeats `first`; the caller knows what entered layer 0.
    """
    tokens, merged = [first, first], [0, 0]
    for wanted in keeps:
        keep = max(min(wanted, tokens[-1]), 0)
        clusters = merged_count(tokens[-1] - keep)
        tokens.append(keep + clusters)
        merged.append(clusters)
    return LayerPlan(tuple(tokens), tuple(merged))


def released_keep_percent(values: Sequence[float], first: int, target: int, num_visual: int) -> list[float]:
    """Share of `first` kept after layers 1..L-1, by the released bisection.

    Args:
        values: the unscaled curve at layers 1..L-1, at least one.
        first: tokens left by the layer-0 cut.
        target: wanted mean over layers of the tokens *after* each.
        num_visual: tokens before any cut.
    """
    wanted = (len(values) + 1) * target
    unscaled = sum(int(first * value) for value in values) + int(first * values[-1])
    if abs(unscaled - wanted) < 1:
        return list(values)
    cap = min(int(CAP * target), num_visual)
    low, high, best, error = 0.0, 20.0, 1.0, math.inf
    for _ in range(200):
        scale = (low + high) / 2
        keeps = [min(math.ceil((first - 1) * min(1.0, scale * value)), cap) for value in values]
        total = sum(simulate(first, keeps).tokens[1:])
        if abs(total - wanted) < error:
            best, error = scale, abs(total - wanted)
        if total == wanted:
            break
        low, high = (scale, high) if total < wanted else (low, scale)
    return [best * value for value in values]


@dataclass(frozen=True)
class ReleasedCurve(BudgetedSchedule):
    """The released policy: a cut behind layer 0, then the scaled curve behind every layer.

    Attributes:
        k0, gamma, x0: Eq. 8's parameters, at the reference depth.
        shape: curve.
        slope: how complexity becomes k.
        depth_scale: reference layers per layer of this decoder.
    """

    has_own_accounting: ClassVar[bool] = True

    budget: Budget
    k0: float
    gamma: float
    x0: float
    shape: Shape = "logistic"
    slope: Slope = "linear"
    depth_scale: float = 1.0

    def _solve(self, num_visual: int, num_layers: int, complexity: float | None) -> tuple[LayerPlan, str]:
        complexity = complexity or 0.0
        k = dynamic_slope(complexity, self.k0, self.gamma, self.slope)
        # The released code moves the inflection to x0 + k, Eq. 8 to x0 + beta I.
        values = [
            PLATEAU * curve(self.shape, layer * self.depth_scale, k, self.x0 + k) for layer in range(1, num_layers)
        ]
        if self.budget.accounting == "published" and values:
            target = max(round(self.budget.mean_tokens(num_visual)), 1)
            first = min(int(CAP * target), num_visual)
            percent = released_keep_percent(values, first, target, num_visual)
            plan = simulate(first, [math.ceil((first - 1) * value) for value in percent])
            return _entered(num_visual, plan), f"I={complexity:.2f}, k={k:.3f}, scale={percent[0] / values[0]:.4f}"
        mean = self.budget.mean_tokens(num_visual)
        # A shallow decoder may not afford the released cap: leave one token for each later layer.
        affordable = int(mean * num_layers) - num_visual - (num_layers - 2)
        first = max(min(int(CAP * mean), affordable, num_visual), 1)

        def plan_at(log_scale: float) -> LayerPlan:
            scale = math.exp(log_scale)
            # Rounding up less with depth lets the counts change one at a time, so that the budget can be met; the
            # released rounding moves all layers of a flat curve together.
            keeps = [
                math.floor((first - 1) * min(1.0, scale * value) + 1 - layer / num_layers)
                for layer, value in enumerate(values, start=1)
            ]
            return _entered(num_visual, simulate(first, keeps))

        scale = self._fit(plan_at, -20.0, 20.0)
        return plan_at(scale), f"I={complexity:.2f}, k={k:.3f}, scale={math.exp(scale):.4f}"


def _entered(num_visual: int, plan: LayerPlan) -> LayerPlan:
    return LayerPlan((num_visual, *plan.tokens[1:]), plan.merged)


@dataclass(frozen=True)
class PaperCurve(BudgetedSchedule):
    """Eqs. 5-8: the curve from layer 0 on, rescaled by its analytic area, then by a factor s so that the floored counts
    meet the budget; no vision cut, no merging. Layers up to the one that measures complexity keep every token.

    Attributes:
        k0, gamma, x0, beta: Eq. 8's parameters, at the reference depth.
        shape, slope: as in `ReleasedCurve`.
        measured: layer that measures complexity.
        depth_scale: reference layers per layer of this decoder.
    """

    budget: Budget
    k0: float
    gamma: float
    x0: float
    beta: float
    shape: Shape = "logistic"
    slope: Slope = "linear"
    measured: int = 1
    depth_scale: float = 1.0

    def _solve(self, num_visual: int, num_layers: int, complexity: float | None) -> tuple[LayerPlan, str]:
        complexity = complexity or 0.0
        k = dynamic_slope(complexity, self.k0, self.gamma, self.slope)
        x0 = self.x0 + self.beta * complexity
        area = curve_area(self.shape, k, x0, num_layers * self.depth_scale) / self.depth_scale
        # Eq. 7 divides by an area that already contains N_init; the curve meant has the budget as its own area.
        height = self.budget.mean_tokens(num_visual) * num_layers / max(area, 1e-9)
        values = [height * curve(self.shape, layer * self.depth_scale, k, x0) for layer in range(num_layers)]

        def plan_at(log_scale: float) -> LayerPlan:
            tokens = [num_visual] * min(self.measured + 1, num_layers)
            for value in values[self.measured + 1 :]:
                tokens.append(min(max(math.floor(math.exp(log_scale) * value), 1), tokens[-1]))
            return LayerPlan((*tokens, tokens[-1]), (0,) * (num_layers + 1))

        scale = self._fit(plan_at, -20.0, 20.0)
        return plan_at(scale), f"I={complexity:.2f}, k={k:.3f}, x0={x0:.2f}, s={math.exp(scale):.4f}"
