"""Intervals of ratios of sums over objects or prompts, by bootstrap over whole scenes, whose frames are alike."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
LEVEL = 0.95


def ratio_of_sums(
    above: ArrayLike, below: ArrayLike, scenes: ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, tuple[float, float] | None]:
    """sum(above) / sum(below) and its 95 % interval; NaN where the second sum is 0, no interval below two scenes.

    Args:
        above, below: a number per object or prompt, shape (n,).
        scenes: number or name of each one's scene.
        resamples, seed: of the bootstrap.
    """
    names, scene = np.unique(np.asarray(scenes), return_inverse=True)
    sums = np.stack([np.bincount(scene, weights=np.asarray(part, dtype=float)) for part in (above, below)])
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = float(np.divide(*sums.sum(axis=1)))
        drawn = np.divide(*(sums @ _draws(len(names), resamples, seed)))
    drawn = drawn[np.isfinite(drawn)]
    if len(names) < 2 or not len(drawn):
        return whole, None
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return whole, (float(low), float(high))


@lru_cache(maxsize=8)
def _draws(scenes: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each resample draws each scene, shape (scenes, resamples)."""
    drawn = np.random.default_rng(seed).multinomial(scenes, np.full(scenes, 1 / max(scenes, 1)), size=resamples)
    return np.ascontiguousarray(drawn.T.astype(float))
