"""Paired comparisons and intervals over whole scenes, whose frames are alike, and what a comparison could find."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom, norm, t
from statsmodels.stats.proportion import proportion_confint

from senna_prune.errors import RunError

ALPHA = 0.05
"""Level of every test and, as 1 - ALPHA, of every interval."""
POWER = 0.8
"""Share of runs in which a true difference of the detectable size comes out below `ALPHA`."""
FLIPS = 9999
"""Patterns of signs that a permutation test draws."""
PRIOR = 0.25
"""Scenes all right and all wrong that are added where it is estimated how alike frames are: near 0 and 100 % the few
scenes that differ say too little of it."""

CHANCE = 0.1
"""Scenes added to the noise of a comparison, which is estimated from few where rows hardly differ."""

Values: TypeAlias = Mapping[str, float] | pd.Series
"""A number by sample key."""
Scenes: TypeAlias = Mapping[str, str] | pd.Series
"""Scene by sample key."""
Bounds: TypeAlias = list[float] | None
"""Low and high end of a 95 % interval, as a JSON value; None with fewer than two scenes."""


def aligned(first: Values | Scenes, *others: Values | Scenes) -> list[NDArray]:
    """The values of each in the same order of samples.

    Raises:
        RunError: the arguments are about different samples.
    """
    series = [pd.Series(values) for values in (first, *others)]
    start = series[0].index
    if not all(start.equals(other.index) for other in series):
        series = [one.sort_index() for one in series]
        start = series[0].index
    for other in series[1:]:
        if not start.equals(other.index):
            odd = sorted(set(start) ^ set(other.index))
            raise RunError(
                f"the compared methods saw different samples ({len(odd)} in one only, first {odd[0]})",
                hint="finish the run, or evaluate both on the same planning set",
            )
    return [one.to_numpy() for one in series]


def _by_scene(scenes: Scenes, *values: Values) -> list[NDArray[np.float64]]:
    """Number of samples of every scene, and the sum of each of the values over them."""
    of_scene, *numbers = aligned(scenes, *values)
    codes, _ = pd.factorize(of_scene)
    return [np.bincount(codes).astype(float), *(np.bincount(codes, one.astype(float)) for one in numbers)]


# Tests ----------------------------------------------------------------------------------------------------------------


def sign_flip(first: Values, second: Values, scenes: Scenes) -> float:
    """Two-sided p-value of mean(first) - mean(second): could the sign of each scene's difference as well be the other?

    The permutation test of paired differences, by whole scenes; values averaged over seeds go in. Every pattern of
    signs is tried where there are at most `FLIPS`, else so many drawn ones. Patterns that tie with the observed one
    count half (mid-p): counted in full, as scipy's `permutation_test` does, the test keeps less than its level.

    Raises:
        RunError: the arguments are about different samples.
    """
    _, a, b = _by_scene(scenes, first, second)
    sums = (a - b)[np.abs(a - b) > 1e-9]
    if not len(sums):
        return 1.0
    every = 2 ** len(sums) <= FLIPS
    signs = _every_sign(len(sums)) if every else _drawn_signs(1 << len(sums).bit_length())[:, : len(sums)]
    beyond = np.abs(signs @ sums.astype(np.float32)) - abs(sums.sum())
    tie = 1e-5 * np.abs(sums).sum()
    extreme = np.sum(beyond > tie) + np.sum(np.abs(beyond) <= tie) / 2
    return float(extreme / len(signs) if every else (extreme + 1) / (len(signs) + 1))


@lru_cache(maxsize=16)
def _every_sign(count: int) -> NDArray[np.float32]:
    return (1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)).astype(np.float32)


@lru_cache(maxsize=4)
def _drawn_signs(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).integers(0, 2, size=(FLIPS, count)).astype(np.float32) * 2 - 1


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values of one family of comparisons."""
    order = np.argsort(p_values, kind="stable")
    ascending = np.array(p_values, dtype=float)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(ascending))
    return [float(p) for p in adjusted]


# Intervals ------------------------------------------------------------------------------------------------------------


def wilson(correct: float, count: float) -> list[float]:
    """Wilson score interval of a proportion; takes samples for independent, so it is for reference only."""
    return [float(end) for end in proportion_confint(correct, count, alpha=ALPHA, method="wilson")]


def share_interval(values: Values, scenes: Scenes) -> Bounds:
    """Interval of a mean of values in [0, 1]: Wilson's, for as many independent samples as the scenes are worth.

    Their number is p (1 - p) divided by the squared cluster-robust standard error; the quantile is Student's, of the
    scenes less one. Simulated, it covers 93 to 97 % from p = 0.5 to 0.995 where the few possible counts allow (at 100
    independent samples and p = 0.99 it is 92 or 98 for any interval), and more where frames of a scene are independent.
    """
    sizes, sums = _by_scene(scenes, values)
    if len(sizes) < 2:
        return None
    count, mean = sizes.sum(), sums.sum() / sizes.sum()
    scene = count / len(sizes)
    total, prior = count + 2 * PRIOR * scene, (sums.sum() + PRIOR * scene) / (count + 2 * PRIOR * scene)
    squares = np.sum((sums - sizes * prior) ** 2) + PRIOR * scene**2 * (prior**2 + (1 - prior) ** 2)
    groups = len(sizes) + 2 * PRIOR
    independent = count * prior * (1 - prior) * total / (groups / (groups - 1) * squares)
    z = t.ppf(1 - ALPHA / 2, len(sizes) - 1)
    middle = (mean + z**2 / 2 / independent) / (1 + z**2 / independent)
    half = z / (1 + z**2 / independent) * np.sqrt(mean * (1 - mean) / independent + (z / 2 / independent) ** 2)
    # Rounding alone would leave an end beside 0 or 1.
    return [float(middle - half) if mean > 0 else 0.0, float(middle + half) if mean < 1 else 1.0]


def interval_around(value: float, errors: NDArray[np.float64], least: float) -> Bounds:
    """Student's interval of an estimate whose error is the sum of independent `errors`, one a scene.

    SE^2 = G / (G - 1) * sum_g e_g^2, and not below `least`: rows that agree everywhere are not compared without error.
    """
    groups = len(errors)
    if groups < 2:
        return None
    half = t.ppf(1 - ALPHA / 2, groups - 1) * max(least, math.sqrt(groups / (groups - 1) * float(errors @ errors)))
    return [float(value - half), float(value + half)]


def difference_interval(first: Values, second: Values, scenes: Scenes) -> Bounds:
    """Interval of mean(first) - mean(second), of the same samples; its standard error is a sample's at least."""
    sizes, a, b = _by_scene(scenes, first, second)
    count = sizes.sum()
    value = (a - b).sum() / count
    return interval_around(value, (a - b - sizes * value) / count, 1 / count)


def ratio_errors(first: Values, second: Values, scenes: Scenes) -> pd.Series:
    """Error of mean(first) / mean(second) by scene, to first order; the second mean is not 0."""
    of_scene, a, b = aligned(scenes, first, second)
    ratio = a.mean() / b.mean()
    return pd.Series((a - ratio * b) / (len(a) * b.mean())).groupby(of_scene.astype(str)).sum()


class SceneBootstrap:
    """Cluster bootstrap of means that have no upper end: resamples whole scenes, the same for every column.

    Args:
        scenes: scene of each sample key.
        resamples: number of bootstrap resamples.
        seed: of the resampling; the same seed gives the same intervals.
    """

    def __init__(self, scenes: Scenes, resamples: int, seed: int = 0) -> None:
        self.scenes = pd.Series(scenes)
        self._scene, names = pd.factorize(self.scenes.astype(str))
        draws = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
        # weights[b, s]: how often scene s was drawn in resample b.
        self._weights = np.zeros((resamples, len(names)))
        np.add.at(self._weights, (np.arange(resamples)[:, None], draws), 1)
        self._sizes = self._weights @ np.bincount(self._scene)

    def mean(self, values: Values) -> Bounds:
        """Interval of the mean over samples."""
        _, numbers = aligned(self.scenes, values)
        if self._weights.shape[1] < 2:
            return None
        means = self._weights @ np.bincount(self._scene, numbers) / self._sizes
        return [float(end) for end in np.quantile(means, [ALPHA / 2, 1 - ALPHA / 2])]


# What a comparison could find -----------------------------------------------------------------------------------------


def sign_power(scenes: int, noise: float, shift: float) -> float:
    """Power of the two-sided sign test (mid-p), which the sign-flip test is where scenes differ by equal amounts.

    Args:
        scenes: independent ones.
        noise: share of them that differ either way by chance, half of them each.
        shift: further share of them that differ one way. Where there is no room beside it, noise gives way.
    """
    either = min(1.0, noise + shift)
    least, most = binom.ppf([1e-9, 1 - 1e-9], scenes, either)
    differing = np.arange(least, most + 1)
    needed = binom.isf(ALPHA / 2, differing, 0.5)
    tie = 2 * binom.sf(needed, differing, 0.5) + binom.pmf(needed, differing, 0.5) >= ALPHA
    found = binom.sf(needed + tie - 1, differing, min(1.0, (1 + shift / either) / 2))
    return float(binom.pmf(differing, scenes, either) @ found)


def detectable(first: Values, second: Values, scenes: Scenes, seeds: int = 1) -> float | None:
    """Smallest true difference of the two means that this comparison finds with `POWER`, as a share of the samples.

    It is for the comparison on its own; within a table Holm's adjustment asks for more. Scenes that differ are taken to
    differ by equal amounts, so large and so many that their sum and its variance are as observed. Noise is twice what
    speaks for the row that is behind; what a true difference adds to it is one-sided. Where nothing differs, one sample
    of one seed is taken to differ at a time.

    Args:
        first, second: scores of the same samples, averaged over seeds.
        scenes: of the samples.
        seeds: of the row with more of them.

    Returns:
        None with fewer than two scenes, and where no difference could be found.

    Raises:
        RunError: the arguments are about different samples.
    """
    sizes, a, b = _by_scene(scenes, first, second)
    if len(sizes) < 2:
        return None
    sums = a - b
    total = float(np.abs(sums).sum())
    behind = total - abs(float(sums.sum()))
    if total < 1e-9:
        amount = 1 / seeds
    else:
        # Against noise the variance counts; where all speaks for one row, the number of scenes.
        mean, mixed = total / np.count_nonzero(np.abs(sums) > 1e-9), math.sqrt(behind / total)
        amount = (1 - mixed) * mean + mixed * float(sums @ sums) / total
    found = _least(len(sizes), (behind / amount + CHANCE) / len(sizes))
    difference = None if found is None else found * len(sizes) * amount / sizes.sum()
    return difference if difference is not None and difference <= 1 else None


def detectable_of(samples: int, discordant: float) -> float | None:
    """The same for independent samples of which a share `discordant`, or all that differ, is right on one side only."""
    return _least(samples, discordant, fixed=True)


def _least(scenes: int, noise: float, fixed: bool = False) -> float | None:
    """Smallest shift with `POWER`, to 1 / 1000 of it; `fixed`: the noise holds the shift."""
    low, high = 0.0, 1.0
    if sign_power(scenes, 0.0, 1.0) < POWER:
        return None
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        enough = sign_power(scenes, max(0.0, noise - middle) if fixed else noise, middle) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high


def samples_needed(difference: float, discordant: float) -> int | None:
    """Independent samples with which a true difference is found with `POWER`.

    Args:
        difference: of the two accuracies, in (0, 1].
        discordant: share of samples that are right on one side only.

    Returns:
        The number; None where so few discordant samples cannot make such a difference.
    """
    if difference > discordant:
        return None
    noise = discordant - difference
    guess = float(norm.ppf(1 - ALPHA / 2) + norm.ppf(POWER)) ** 2 * discordant / difference**2
    low, high = 1, math.ceil(2 * guess) + 20
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if sign_power(middle, noise, difference) >= POWER else (middle, high)
    return high
