"""AutoPrune's numbers without torch: the slope that a complexity gives, falling curves over depth in four shapes (Table
4b), and the areas under them."""

from __future__ import annotations

import math
from typing import Literal

Shape = Literal["logistic", "tanh", "linear", "exponential"]
Slope = Literal["linear", "linear_discrete", "logistic"]

REFERENCE_LAYERS = 32
"""Depth that published parameters belong to; the linear curve is defined by its ends there."""


def dynamic_slope(complexity: float, k0: float, gamma: float, mode: Slope = "linear") -> float:
    """Eq. 8, k = k0 - gamma I, not below 0 as released; or the released alternatives: rounded to 0.05, or a rising
    logistic of I that ignores k0 and gamma."""
    if mode == "logistic":
        return logistic(-1.35 * (complexity - 0.77))
    slope = max(k0 - gamma * complexity, 0.0)
    return round(slope / 0.05) * 0.05 if mode == "linear_discrete" else slope


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
        return logistic(2 * k * (depth - x0))
    if shape == "exponential":
        return math.exp(-min(k * depth, 700.0))
    return logistic(k * (depth - x0))


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


def logistic(z: float) -> float:
    """1 / (1 + e^z) without overflow."""
    return 1.0 / (1.0 + math.exp(min(z, 700.0)))


def _softplus(z: float) -> float:
    """ln(1 + e^z) without overflow."""
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def _line_ends(k: float, x0: float) -> tuple[float, float]:
    """Values of the linear curve at depth 0 and at the reference depth."""
    return logistic(-k * x0), logistic(k * (REFERENCE_LAYERS - x0))
