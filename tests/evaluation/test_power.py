"""What a comparison could find: by hand, and against simulated runs."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from senna_prune.errors import RunError
from senna_prune.evaluation.report.explain import DISCORDANT
from senna_prune.evaluation.score.statistics import (
    ALPHA,
    POWER,
    detectable,
    detectable_of,
    samples_needed,
    sign_flip,
    sign_power,
)


def keyed(marks: str) -> dict[str, float]:
    return {f"s{number:06d}": float(value) for number, value in enumerate(marks)}


def scenes_of(size: int, per_scene: int) -> dict[str, str]:
    return {f"s{number:06d}": f"scene-{number // per_scene:05d}" for number in range(size)}


def test_power_by_hand() -> None:
    """All that differs speaks for one row: five scenes are enough, as 1 of 2^5 patterns is half of those that tie."""
    one_way = keyed("1" * 5)
    assert sign_flip(one_way, keyed("0" * 5), scenes_of(5, 1)) == 1 / 2**5
    assert sign_flip(keyed("1" * 4), keyed("0" * 4), scenes_of(4, 1)) == 1 / 2**4 > ALPHA
    assert sign_power(100, 0.0, 0.07) == pytest.approx(binom.sf(4, 100, 0.07))
    # Ten scenes that all differ, three quarters one way: 9 or more of ten (mid-p of 8 of ten: 67 / 1024).
    assert sign_power(10, 0.5, 0.5) == pytest.approx(binom.sf(8, 10, 0.75))


def test_normal_theory_is_met_where_much_differs() -> None:
    """2.80 standard errors: 2.8016 * sqrt(0.2 / n), and 2.8016^2 * (0.2 - 0.05^2) / 0.05^2 = 620 samples."""
    assert detectable_of(2000, 0.2) == pytest.approx(2.801585 * math.sqrt(0.2 / 2000), rel=0.02)
    assert samples_needed(0.05, 0.2) == pytest.approx(620, rel=0.02)
    assert samples_needed(0.05, 0.04) is None


def test_rows_that_agree_everywhere_are_not_compared_without_error() -> None:
    first = keyed("1" * 100)
    least = detectable(first, first, scenes_of(100, 1))
    # Five scenes must differ; that many do in 80 % of the runs where 6.65 do on average, and a little for chance.
    assert least == pytest.approx(0.0665, abs=0.002)
    assert detectable(first, first, scenes_of(100, 1), seeds=3) == pytest.approx((least or 0) / 3)
    assert detectable_of(100, 0.0) == pytest.approx(0.0665, abs=0.0005)
    assert detectable(keyed("101"), keyed("101"), scenes_of(3, 1)) is None, "no difference is that large"
    assert detectable_of(3, 0.2) is None


def test_one_scene_tells_nothing_and_mismatched_samples_are_refused() -> None:
    first = keyed("1010")
    assert detectable(first, first, scenes_of(4, 4)) is None
    with pytest.raises(RunError, match="different samples"):
        detectable(first, keyed("101"), scenes_of(4, 1))


@pytest.mark.parametrize("discordant", DISCORDANT)
def test_needs_and_what_is_detected_agree(discordant: float) -> None:
    needed = samples_needed(0.05, discordant)
    assert needed is not None
    assert detectable_of(needed, discordant) == pytest.approx(0.05, rel=0.02)


def simulated(
    rng: np.random.Generator, runs: int, shape: tuple[int, int], seeds: int, noise: float, effect: float
) -> tuple[NDArray, NDArray]:
    """Scores of two methods, shapes (runs, samples), each the mean over independent seeds; the first is better by
    `effect` in truth. Half of the scenes of several samples are decided as a whole."""
    num_scenes, per_scene = shape
    totals = np.zeros((2, runs, num_scenes, per_scene))
    for _ in range(seeds):
        draw = rng.random((runs, num_scenes, per_scene))
        if per_scene > 1:
            whole = rng.random((runs, num_scenes, 1)) < 0.5
            draw = np.where(whole, rng.random((runs, num_scenes, 1)), draw)
        totals[0] += (draw < noise / 2 + effect) | (draw > noise + effect)
        totals[1] += draw >= noise / 2 + effect
    first, second = totals.reshape(2, runs, -1) / seeds
    return first, second


CASES = [(scenes, 1, seeds, 0.2) for scenes in (100, 200, 500) for seeds in (1, 3, 5)]
CASES += [(scenes, 1, seeds, 0.0) for scenes in (100, 200, 500) for seeds in (1, 3)] + [
    (200, 4, 1, 0.2),
    (200, 4, 5, 0.2),
]


@pytest.mark.parametrize(("num_scenes", "per_scene", "seeds", "noise"), CASES)
@pytest.mark.slow
def test_power_against_simulated_runs(num_scenes: int, per_scene: int, seeds: int, noise: float) -> None:
    """Where the difference that runs state on average is the true one, 80 % of the runs find it: within three points,
    and two standard errors of so many runs."""
    rng, runs = np.random.default_rng(5), 1500 if num_scenes < 500 else 800
    scenes = pd.Series(np.arange(num_scenes).repeat(per_scene).astype(str))
    effect = 0.05
    for _ in range(4):
        pairs = zip(*simulated(rng, 60, (num_scenes, per_scene), seeds, noise, effect), strict=True)
        effect = float(np.mean([detectable(pd.Series(a), pd.Series(b), scenes, seeds) for a, b in pairs]))  # type: ignore[arg-type]
    found = 0
    for a, b in zip(*simulated(rng, runs, (num_scenes, per_scene), seeds, noise, effect), strict=True):
        found += a.mean() > b.mean() and sign_flip(pd.Series(a), pd.Series(b), scenes) < ALPHA
    assert found / runs == pytest.approx(POWER, abs=0.03 + 2 * math.sqrt(POWER * (1 - POWER) / runs))


@pytest.mark.parametrize(("samples", "discordant"), [(100, 0.1), (300, 0.2), (1000, 0.0)])
def test_what_explain_says_is_found(samples: int, discordant: float) -> None:
    """Independent samples, a share of which only one method has right; with three seeds a third of them is enough."""
    effect = detectable_of(samples, discordant)
    assert effect is not None
    rng = np.random.default_rng(9)
    for count, seeds in ((samples, 1), (math.ceil(samples / 3), 3)):
        scenes = pd.Series(np.arange(count).astype(str))
        drawn = simulated(rng, 600, (count, 1), seeds, max(0.0, discordant - effect), effect)
        found = [sign_flip(pd.Series(a), pd.Series(b), scenes) < ALPHA for a, b in zip(*drawn, strict=True)]
        assert np.mean(found) == pytest.approx(POWER, abs=0.03 + 0.033)
