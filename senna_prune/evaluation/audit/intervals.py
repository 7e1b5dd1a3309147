"""Intervals of ratios of sums over objects or prompts, by bootstrap over whole scenes, whose frames are alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 2000
LEVEL = 0.95


def ratio_of_sums(
    above: ArrayLike, below: ArrayLike, scenes: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, tuple[float, float] | None]:
    """sum(above) / sum(below) and its 95 % interval; NaN where the second sum is 0, no interval below two scenes.

    Args:
        above, below: a number per object or prompt, shape (n,).
        scenes: of each.
        resamples, seed: of the bootstrap.
    """
    names, scene = np.unique(np.asarray(scenes, dtype=str), return_inverse=True)
    sums = np.stack([np.bincount(scene, weights=np.asarray(part, dtype=float)) for part in (above, below)])
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        whole, (drawn_above, drawn_below) = np.divide(*sums.sum(axis=1)), sums @ draws.T
        drawn = drawn_above / drawn_below
    drawn = drawn[np.isfinite(drawn)]
    if len(names) < 2 or not len(drawn):
        return float(whole), None
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(whole), (float(low), float(high))
