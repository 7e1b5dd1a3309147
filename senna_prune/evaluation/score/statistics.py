"""Paired tests of differences, bootstrap intervals over whole scenes, whose frames are alike, and what they find."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest, norm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from senna_prune.errors import RunError

ALPHA = 0.05
"""Level of every test and, as 1 - ALPHA, of every interval."""
POWER = 0.8
"""Share of runs in which a true difference of the detectable size comes out below `ALPHA`."""
FACTOR = float(norm.ppf(1 - ALPHA / 2) + norm.ppf(POWER))
"""Standard errors between 0 and a difference that is detected with that power: 2.80."""
FEWEST = math.ceil(1 - math.log2(ALPHA))
"""The exact McNemar test needs so many samples that only one side has right: 2 * (1/2)^6 = 0.03 is below `ALPHA`."""

FLIPS = 9999
"""Patterns of signs that a permutation test draws."""

Values: TypeAlias = Mapping[str, float] | pd.Series
"""A number by sample key."""
Bounds: TypeAlias = list[float] | None
"""Low and high end of a 95 % interval, as a JSON value; None with fewer than two scenes."""


@dataclass(frozen=True)
class McNemar:
    """Exact two-sided McNemar test: samples that only the first (second) method has right, and the p-value."""

    only_first: int
    only_second: int
    p: float


def mcnemar(first: Values, second: Values) -> McNemar:
    """Compare two methods on the same samples, given as sample key -> right or wrong; RunError if they are others."""
    a, b = aligned(first, second)
    only_first, only_second = int(((a == 1) & (b != 1)).sum()), int(((a != 1) & (b == 1)).sum())
    odd = only_first + only_second
    return McNemar(only_first, only_second, float(binomtest(only_first, odd, 0.5).pvalue) if odd else 1.0)


def aligned(first: Values, *others: Values) -> list[NDArray]:
    """The values of each in the same order of samples.

    Raises:
        RunError: the arguments are about different samples.
    """
    start = pd.Series(first).sort_index()
    found = [start.to_numpy()]
    for other in others:
        values = pd.Series(other).sort_index()
        if not start.index.equals(values.index):
            odd = sorted(set(start.index) ^ set(values.index))
            raise RunError(
                f"the compared methods saw different samples ({len(odd)} in one only, first {odd[0]})",
                hint="finish the run, or evaluate both on the same planning set",
            )
        found.append(values.to_numpy())
    return found


def sign_flip(first: Values, second: Values, scenes: Mapping[str, str] | pd.Series) -> float:
    """Two-sided p-value of mean(first) - mean(second): could the sign of each scene's difference as well be the other?

    The permutation test of paired differences, by whole scenes, whose frames are alike; values averaged over seeds go
    in. Every pattern of signs is tried where there are at most `FLIPS`, else so many drawn ones. Patterns that tie with
    the observed one count half (mid-p): counted in full, as scipy's `permutation_test` does, the test keeps less than
    its level on differences of whole plans, and the stated power would be two points too high.

    Raises:
        RunError: the arguments are about different samples.
    """
    a, b, of_scene = aligned(first, second, scenes)
    _, scene = np.unique(of_scene.astype(str), return_inverse=True)
    sums = np.bincount(scene, weights=a.astype(float) - b.astype(float))
    sums = sums[np.abs(sums) > 1e-12]
    if not len(sums):
        return 1.0
    every = 2 ** len(sums) <= FLIPS
    if every:
        signs = 1.0 - 2 * (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1)
    else:
        signs = np.random.default_rng(0).integers(0, 2, size=(FLIPS, len(sums))) * 2.0 - 1
    beyond = np.abs(signs @ sums) - abs(sums.sum())
    extreme = np.sum(beyond > 1e-9) + np.sum(np.abs(beyond) <= 1e-9) / 2
    return float(extreme / len(signs) if every else (extreme + 1) / (len(signs) + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values of one family of comparisons."""
    return [float(p) for p in multipletests(p_values, alpha=ALPHA, method="holm")[1]] if p_values else []


def wilson(correct: int, count: int) -> list[float]:
    """Wilson score interval of a proportion; takes samples for independent, so it is for reference only."""
    return [float(end) for end in proportion_confint(correct, count, alpha=ALPHA, method="wilson")]


class SceneBootstrap:
    """Cluster bootstrap: resamples whole scenes, and the same scenes for every method, so that differences and ratios
    are paired. (scipy's draws samples, one a time for every method; its numbers would be others.)

    Args:
        scenes: scene of each sample key.
        resamples: number of bootstrap resamples.
        seed: of the resampling; the same seed gives the same intervals.
        among: scenes to draw from, where other samples have more of them. With the same ones, the draws are the same.
    """

    def __init__(
        self, scenes: Mapping[str, str] | pd.Series, resamples: int, seed: int = 0, among: Iterable[str] | None = None
    ) -> None:
        self.scenes = pd.Series(scenes).sort_index()
        names = sorted(set(self.scenes if among is None else among))
        self._scene = pd.Categorical(self.scenes, categories=names).codes
        draws = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
        # weights[b, s]: how often scene s was drawn in resample b.
        self._weights = np.stack([np.bincount(row, minlength=len(names)) for row in draws]).astype(np.float64)
        self._sizes = self._weights @ np.bincount(self._scene, minlength=len(names))

    def resampled(self, values: Values) -> NDArray[np.float64]:
        """Mean over samples in every resample, NaN where it holds none of them."""
        _, numbers = aligned(self.scenes, values)
        sums = np.bincount(self._scene, weights=numbers, minlength=self._weights.shape[1])
        with np.errstate(invalid="ignore"):
            return np.asarray(self._weights @ sums / self._sizes)

    def mean(self, values: Values) -> Bounds:
        """Interval of the mean over samples."""
        return self.percentiles(self.resampled(values))

    def difference(self, first: Values, second: Values) -> Bounds:
        """Interval of mean(first) - mean(second)."""
        return self.percentiles(self.resampled(first) - self.resampled(second))

    def ratio(self, first: Values, second: Values) -> Bounds:
        """Interval of mean(first) / mean(second); None where a resample leaves the denominator at 0."""
        below = self.resampled(second)
        return self.percentiles(self.resampled(first) / below) if below.all() else None

    def percentiles(self, resampled: NDArray[np.float64]) -> Bounds:
        """Interval of what was computed from resamples, without those that are NaN."""
        if len(np.unique(self._scene)) < 2:
            return None
        return [float(end) for end in np.quantile(resampled[~np.isnan(resampled)], [ALPHA / 2, 1 - ALPHA / 2])]


def standard_error(first: Values, second: Values, scenes: Mapping[str, str] | pd.Series) -> float | None:
    """Cluster-robust standard error of mean(first) - mean(second), as a share of the samples.

    With d_i the difference at sample i of n, its mean D, and G scenes: SE^2 = G / (G - 1) * sum_g (sum_{i in g} (d_i -
    D))^2 / n^2. Where every scene holds one sample it is the usual standard error of a paired mean. None with fewer
    than two scenes; RunError where the arguments are about different samples.
    """
    a, b, of_scene = aligned(first, second, scenes)
    difference = a.astype(float) - b.astype(float)
    names, scene = np.unique(of_scene.astype(str), return_inverse=True)
    if len(names) < 2:
        return None
    sums = np.bincount(scene, weights=difference - difference.mean())
    return float(np.sqrt(len(names) / (len(names) - 1) * np.sum(sums**2)) / len(difference))


def detectable(first: Values, second: Values, scenes: Mapping[str, str] | pd.Series) -> float | None:
    """Smallest true difference of the two means that this comparison detects with `POWER`, as a share of the samples.

    It is for the comparison on its own; within a table Holm's adjustment asks for more. Arguments, errors and None as
    for `standard_error`; None also where no difference could be detected. It is never below `FEWEST` samples, so that
    two methods that agree everywhere, whose standard error is 0, do not seem to be compared without error.
    """
    error = standard_error(first, second, scenes)
    return None if error is None else _detectable(error, len(first))


def detectable_of(samples: int, discordant: float) -> float | None:
    """The same for independent samples of which a share `discordant` is right on one side only."""
    return _detectable(math.sqrt(discordant / samples), samples)


def _detectable(error: float, samples: int) -> float | None:
    least = max(FACTOR * error, FEWEST / samples)
    return least if least <= 1 else None


def samples_needed(difference: float, discordant: float) -> int | None:
    """Independent samples with which a true difference is detected with `POWER`.

    Args:
        difference: of the two accuracies, in (0, 1].
        discordant: share of samples that are right on one side only.

    Returns:
        The number; None where so few discordant samples cannot make such a difference.
    """
    if difference > discordant:
        return None
    variance = discordant - difference**2
    return math.ceil(max(FACTOR**2 * variance, FEWEST * difference) / difference**2)
