"""Paired tests of differences between methods, and bootstrap intervals over whole scenes, whose frames are alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from senna_prune.errors import RunError

ALPHA = 0.05
"""Level of every test and, as 1 - ALPHA, of every interval."""


@dataclass(frozen=True)
class Interval:
    """Bounds of a 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class McNemar:
    """Exact two-sided McNemar test: samples that only the first (second) method has right, and the p-value."""

    only_first: int
    only_second: int
    p: float


def mcnemar(first: Mapping[str, bool], second: Mapping[str, bool]) -> McNemar:
    """Compare two methods on the same samples, given as sample key -> correct.

    Raises:
        RunError: the two were not evaluated on the same samples.
    """
    require_same_samples(first, second)
    b = sum(first[key] and not second[key] for key in first)
    c = sum(second[key] and not first[key] for key in first)
    return McNemar(b, c, float(binomtest(min(b, c), b + c, 0.5).pvalue) if b + c else 1.0)


def require_same_samples(first: Mapping[str, object], second: Mapping[str, object]) -> None:
    """Refuse a comparison of mismatched sample sets, naming one sample that only one side has."""
    if odd := sorted(first.keys() ^ second.keys()):
        raise RunError(
            f"the compared methods saw different samples ({len(odd)} in one only, first {odd[0]})",
            hint="finish the run, or evaluate both on the same planning set",
        )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values of one family of comparisons."""
    return [float(p) for p in multipletests(p_values, alpha=ALPHA, method="holm")[1]] if p_values else []


def wilson(correct: int, count: int) -> Interval:
    """Wilson score interval of a proportion; takes samples for independent, so it is for reference only."""
    low, high = proportion_confint(correct, count, alpha=ALPHA, method="wilson")
    return Interval(float(low), float(high))


def mean_outcome(outcomes: Sequence[Mapping[str, bool]]) -> dict[str, float]:
    """Share of runs (seeds) that are right, by sample."""
    return {key: sum(run[key] for run in outcomes) / len(outcomes) for key in outcomes[0]}


class SceneBootstrap:
    """Cluster bootstrap: resamples whole scenes, and the same scenes for every method, so that differences and ratios
    are paired.

    Args:
        scenes: scene of each sample key.
        resamples: number of bootstrap resamples.
        seed: of the resampling; the same seed gives the same intervals.
        among: scenes to draw from, where other samples have more of them. With the same ones, the draws are the same.
    """

    def __init__(
        self, scenes: Mapping[str, str], resamples: int, seed: int = 0, among: Iterable[str] | None = None
    ) -> None:
        self.keys = sorted(scenes)
        names = sorted(set(scenes.values() if among is None else among))
        number = {name: index for index, name in enumerate(names)}
        self._scene = np.array([number[scenes[key]] for key in self.keys])
        self._num_scenes = len(names)
        draws = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
        # weights[b, s]: how often scene s was drawn in resample b.
        self._weights = np.stack([np.bincount(row, minlength=len(names)) for row in draws]).astype(np.float64)
        self._sizes = self._weights @ np.bincount(self._scene, minlength=len(names))

    def resampled(self, values: Mapping[str, float]) -> NDArray[np.float64]:
        """Mean over samples in every resample, NaN where it holds none of them."""
        require_same_samples(values, dict.fromkeys(self.keys))
        sums = np.bincount(self._scene, weights=[values[key] for key in self.keys], minlength=self._num_scenes)
        with np.errstate(invalid="ignore"):
            return np.asarray(self._weights @ sums / self._sizes)

    def mean(self, values: Mapping[str, float]) -> Interval | None:
        """Interval of the mean over samples; None with fewer than two scenes, where nothing can be resampled."""
        return self.percentiles(self.resampled(values))

    def difference(self, first: Mapping[str, float], second: Mapping[str, float]) -> Interval | None:
        """Interval of mean(first) - mean(second)."""
        return self.percentiles(self.resampled(first) - self.resampled(second))

    def ratio(self, first: Mapping[str, float], second: Mapping[str, float]) -> Interval | None:
        """Interval of mean(first) / mean(second); None where a resample leaves the denominator at 0."""
        below = self.resampled(second)
        return self.percentiles(self.resampled(first) / below) if below.all() else None

    def percentiles(self, resampled: NDArray[np.float64]) -> Interval | None:
        """Interval of what was computed from resamples, without those that are NaN; None with fewer than two scenes."""
        if len(np.unique(self._scene)) < 2:
            return None
        low, high = np.quantile(resampled[~np.isnan(resampled)], [ALPHA / 2, 1 - ALPHA / 2])
        return Interval(float(low), float(high))
