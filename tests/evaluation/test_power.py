"""The detectable difference: by hand, and against simulated runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from senna_prune.errors import RunError
from senna_prune.evaluation.report.explain import DISCORDANT
from senna_prune.evaluation.score.statistics import (
    ALPHA,
    FACTOR,
    FEWEST,
    POWER,
    detectable,
    detectable_of,
    mcnemar,
    samples_needed,
    sign_flip,
    standard_error,
)

EFFECT = 0.05
RUNS = 1000


def keyed(values: NDArray[np.float64] | str) -> dict[str, float]:
    return {f"s{number:06d}": float(value) for number, value in enumerate(values)}


def scenes_of(size: int, per_scene: int) -> dict[str, str]:
    return {f"s{number:06d}": f"scene-{number // per_scene:05d}" for number in range(size)}


def test_constants_by_hand() -> None:
    assert pytest.approx(1.959964 + 0.841621, abs=1e-6) == FACTOR
    assert FEWEST == 6
    one_way = {str(number): True for number in range(6)}
    other = dict.fromkeys(one_way, False)
    assert mcnemar(one_way, other).p < 0.05
    assert mcnemar(dict(list(one_way.items())[:5]), dict(list(other.items())[:5])).p > 0.05


def test_error_by_hand() -> None:
    """Twelve samples of three scenes; differences 1 1 0 0 | 0 0 0 -1 | 1 0 0 1, mean 3/12."""
    first, second = keyed("110010001001"), keyed("000010010000")
    # Sums over scenes of the difference less 1/4: 2 - 1, -1 - 1, 2 - 1.
    expected = math.sqrt(3 / 2 * (1 + 4 + 1)) / 12
    assert standard_error(first, second, scenes_of(12, 4)) == pytest.approx(expected) == pytest.approx(0.25)
    assert detectable(first, second, scenes_of(12, 4)) == pytest.approx(0.25 * FACTOR)
    # Every sample a scene of its own: four differences of 1 and one of -1, variance (5 - 12 / 16) / 11.
    assert standard_error(first, second, scenes_of(12, 1)) == pytest.approx(math.sqrt((5 - 0.75) / 11 / 12))


def test_methods_that_agree_everywhere_are_not_compared_without_error() -> None:
    first = keyed("101011")
    assert standard_error(first, first, scenes_of(6, 1)) == 0
    assert detectable(first, first, scenes_of(6, 1)) == 1.0
    assert detectable(keyed("1" * 60), keyed("1" * 60), scenes_of(60, 2)) == 0.1


def test_one_scene_tells_nothing_and_mismatched_samples_are_refused() -> None:
    first = keyed("1010")
    assert detectable(first, first, scenes_of(4, 4)) is None
    with pytest.raises(RunError, match="different samples"):
        detectable(first, keyed("101"), scenes_of(4, 1))


def test_needs_by_hand() -> None:
    # Variance 0.2 - 0.05^2; 2.8016^2 * 0.1975 / 0.0025 = 620.1.
    assert samples_needed(0.05, 0.2) == 621
    assert samples_needed(0.05, 0.04) is None
    # All discordant samples one way: six of them are enough for the test, and so is a sixth more than that.
    assert samples_needed(0.2, 0.2) == math.ceil(max(FACTOR**2 * 0.16, 1.2) / 0.04)
    assert detectable_of(500, 0.2) == pytest.approx(2.801585 * math.sqrt(0.2 / 500), abs=1e-6)
    assert detectable_of(500, 0.0) == 6 / 500
    assert detectable_of(3, 0.2) is None, "no difference is that large"


@pytest.mark.parametrize("discordant", DISCORDANT)
def test_needs_and_what_is_detected_agree(discordant: float) -> None:
    needed = samples_needed(EFFECT, discordant)
    assert needed is not None
    # The one uses the variance under the difference, the other without it.
    assert detectable_of(needed, discordant) == pytest.approx(EFFECT, rel=0.02)


def simulated(rng: np.random.Generator, runs: int, num_scenes: int, per_scene: int) -> tuple[NDArray, NDArray]:
    """Right (1.0) or wrong of two methods, shapes (runs, samples); the first is better by `EFFECT` in truth.

    Half of the scenes are decided as a whole: their samples agree in which method is right.
    """
    shape = (runs, num_scenes, per_scene)
    draw = np.where(rng.random((runs, num_scenes, 1)) < 0.5, rng.random((runs, num_scenes, 1)), rng.random(shape))
    # 15 % only the first is right, 10 % only the second, 45 % both.
    first, second = (draw < 0.15) | (draw > 0.55), ((draw >= 0.15) & (draw < 0.25)) | (draw > 0.55)
    return first.reshape(runs, -1).astype(float), second.reshape(runs, -1).astype(float)


@pytest.mark.parametrize(("per_scene", "seeds"), [(1, 1), (4, 1), (1, 3), (4, 5)])
@pytest.mark.slow
def test_power_against_simulated_runs(per_scene: int, seeds: int) -> None:
    """With so many scenes that the stated detectable difference is the true one, 80 % of the runs find it, also where
    rows are means over seeds."""
    rng = np.random.default_rng(21)
    large = 40_000

    def averaged(runs: int, num_scenes: int) -> list[NDArray]:
        drawn = [simulated(rng, runs, num_scenes, per_scene) for _ in range(seeds)]
        return [np.mean([one[side] for one in drawn], axis=0) for side in (0, 1)]

    pilot = [values[0] for values in averaged(1, large)]
    stated = detectable(keyed(pilot[0]), keyed(pilot[1]), scenes_of(large * per_scene, per_scene))
    assert stated is not None
    num_scenes = round(large * (stated / EFFECT) ** 2)
    scenes = scenes_of(num_scenes * per_scene, per_scene)
    found, stated_again = 0, []
    for a, b in zip(*averaged(RUNS, num_scenes), strict=True):
        first, second = keyed(a), keyed(b)
        found += a.mean() > b.mean() and sign_flip(first, second, scenes) < ALPHA
        if len(stated_again) < 20:
            stated_again.append(detectable(first, second, scenes))
    assert np.mean(stated_again) == pytest.approx(EFFECT, abs=0.004)
    assert found / RUNS == pytest.approx(POWER, abs=0.03)
    if per_scene > 1 and seeds == 1:
        # Frames taken for independent would promise the same power with far fewer scenes.
        promised = samples_needed(EFFECT, 0.25)
        assert promised is not None
        assert promised < 0.6 * num_scenes * per_scene
