"""The smallest difference that a paired comparison can detect, and how many samples a wanted difference needs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy.stats import norm

from senna_prune.evaluation.score.statistics import ALPHA, require_same_samples

POWER = 0.8
"""Share of runs in which a true difference of the detectable size comes out below `ALPHA`."""
FACTOR = float(norm.ppf(1 - ALPHA / 2) + norm.ppf(POWER))
"""Standard errors between 0 and a difference that is detected with that power: 2.80."""
FEWEST = math.ceil(1 - math.log2(ALPHA))
"""The exact McNemar test needs so many samples that only one side has right: 2 * (1/2)^6 = 0.03 is below `ALPHA`."""


def standard_error(first: Mapping[str, float], second: Mapping[str, float], scenes: Mapping[str, str]) -> float | None:
    """Cluster-robust standard error of mean(first) - mean(second).

    With d_i the difference at sample i of n, its mean D, and G scenes: SE^2 = G / (G - 1) * sum_g (sum_{i in g} (d_i -
    D))^2 / n^2. Where every scene holds one sample it is the usual standard error of a paired mean.

    Args:
        first, second: share of runs that are right, by sample key.
        scenes: scene of each sample key.

    Returns:
        The error as a share of the samples; None with fewer than two scenes.

    Raises:
        RunError: the arguments are about different samples.
    """
    require_same_samples(first, second)
    require_same_samples(first, scenes)
    keys = sorted(first)
    difference = np.array([first[key] - second[key] for key in keys])
    names, scene = np.unique([scenes[key] for key in keys], return_inverse=True)
    if len(names) < 2:
        return None
    sums = np.bincount(scene, weights=difference - difference.mean())
    return float(np.sqrt(len(names) / (len(names) - 1) * np.sum(sums**2)) / len(keys))


def detectable(first: Mapping[str, float], second: Mapping[str, float], scenes: Mapping[str, str]) -> float | None:
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
