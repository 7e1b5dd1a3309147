"""Statistics on cases worked out by hand or known in closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import permutation_test
from scipy.stats import t as student

from senna_prune.errors import RunError
from senna_prune.evaluation.score.statistics import (
    SceneBootstrap,
    aligned,
    difference_interval,
    holm,
    interval_around,
    ratio_errors,
    share_interval,
    sign_flip,
    wilson,
)


def outcomes(pattern: str) -> dict[str, bool]:
    return {str(index): mark == "1" for index, mark in enumerate(pattern)}


def test_mismatched_samples_are_refused() -> None:
    with pytest.raises(RunError, match=r"different samples \(1 in one only, first 2\)"):
        aligned(outcomes("110"), outcomes("11"))
    with pytest.raises(RunError, match="different samples"):
        SceneBootstrap({"0": "a", "1": "b"}, 10).mean({"0": 1.0})
    # In another order they are the same.
    first, second = aligned(outcomes("110"), dict(reversed(outcomes("110").items())))
    assert first.tolist() == second.tolist() == [True, True, False]


def test_holm_by_hand() -> None:
    # Ordered .01 .03 .04 -> x3, x2, x1 and then the running maximum.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_wilson_by_hand() -> None:
    # n = 10, k = 5, z = 1.959964: centre 0.5, half width z / (n + z^2) * sqrt(n/4 + z^2/4).
    z = 1.959963984540054
    half = z / (10 + z * z) * np.sqrt(10 / 4 + z * z / 4)
    interval = wilson(5, 10)
    assert interval[0] == pytest.approx(0.5 - half)
    assert interval[1] == pytest.approx(0.5 + half)


def test_bootstrap_resamples_scenes_not_samples() -> None:
    # Two scenes of 50 equal outcomes each: a resample holds scene b 0, 1 or 2 times, so the mean is 0, 1/2 or 1.
    scenes = {str(index): "a" if index < 50 else "b" for index in range(100)}
    values = {key: float(scene == "a") for key, scene in scenes.items()}
    interval = SceneBootstrap(scenes, 500).mean(values)
    assert interval is not None
    assert interval == [0.0, 1.0]


def test_bootstrap_matches_the_normal_interval_when_every_scene_has_one_sample() -> None:
    rng = np.random.default_rng(1)
    values = {str(index): float(rng.random() < 0.3) for index in range(400)}
    mean = float(np.mean(list(values.values())))
    half = 1.96 * np.sqrt(mean * (1 - mean) / 400)
    interval = SceneBootstrap({key: key for key in values}, 4000).mean(values)
    assert interval is not None
    assert interval[0] == pytest.approx(mean - half, abs=0.01)
    assert interval[1] == pytest.approx(mean + half, abs=0.01)


def test_share_interval_by_hand() -> None:
    """Twelve samples of four scenes, 3 2 3 1 right; with two quarters of a scene p is 9.75 of 13.5."""
    values, scenes = outcomes("111110111100"), dict(zip(outcomes("0" * 12), "aaabbbcccddd", strict=True))
    prior = 9.75 / 13.5
    squares = sum((right - 3 * prior) ** 2 for right in (3, 2, 3, 1)) + 0.25 * 9 * (prior**2 + (1 - prior) ** 2)
    worth = 12 * prior * (1 - prior) * 13.5 / (4.5 / 3.5 * squares)
    z = student.ppf(0.975, 3)
    middle = (0.75 + z**2 / 2 / worth) / (1 + z**2 / worth)
    half = z / (1 + z**2 / worth) * np.sqrt(0.75 * 0.25 / worth + (z / 2 / worth) ** 2)
    assert share_interval(values, scenes) == pytest.approx([max(0, middle - half), min(1, middle + half)])
    assert share_interval(values, dict.fromkeys(scenes, "one")) is None


@pytest.mark.parametrize("size", [2, 12, 400])
def test_no_interval_of_a_share_is_a_point(size: int) -> None:
    scenes = {str(n): str(n) for n in range(size)}
    low, high = share_interval(dict.fromkeys(scenes, 1.0), scenes) or []
    assert low < 0.9999 and high == 1
    low, high = share_interval(dict.fromkeys(scenes, 0.0), scenes) or []
    assert low == 0 and high > 0.0001


def drawn(rng: np.random.Generator, share: float, num_scenes: int, per_scene: int, alike: float) -> NDArray:
    """Right or wrong; a share of the scenes is decided as a whole."""
    whole = rng.random((num_scenes, 1)) < alike
    return np.where(whole, rng.random((num_scenes, 1)), rng.random((num_scenes, per_scene))).ravel() < share


@pytest.mark.slow
@pytest.mark.parametrize(("num_scenes", "per_scene", "alike"), [(100, 1, 0), (500, 1, 0), (100, 4, 0.5), (150, 9, 0.5)])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995])
def test_share_intervals_cover(share: float, num_scenes: int, per_scene: int, alike: float) -> None:
    """93 to 97 %, with three standard errors of 1,500 runs. Of 100 independent samples so few are wrong near 100 % that
    no interval covers between 92.1 and 98.2 % at 0.99, nor between 91.0 and 98.6 % at 0.995."""
    rng, covered = np.random.default_rng(8), 0
    scenes = pd.Series(np.arange(num_scenes).repeat(per_scene).astype(str))
    for _ in range(1500):
        low, high = share_interval(pd.Series(drawn(rng, share, num_scenes, per_scene, alike)), scenes) or []
        covered += low <= share <= high
    least = 0.90 if (num_scenes, per_scene) == (100, 1) and share >= 0.99 else 0.93 - 0.02
    assert least <= covered / 1500 <= 0.97 + 0.013


def test_differences_and_ratios_are_paired() -> None:
    """Ten scenes of two: 1.0 for one row throughout, and 0.5 for the other on average."""
    scenes = {str(n): str(n // 2) for n in range(20)}
    first, second = dict.fromkeys(scenes, 1.0), {key: float(int(key) % 2) for key in scenes}
    # Every scene's difference is 1, so the error is a sample's.
    t = student.ppf(0.975, 9)
    assert difference_interval(first, second, scenes) == pytest.approx([0.5 - t / 20, 0.5 + t / 20])
    assert ratio_errors(first, second, scenes).to_numpy() == pytest.approx(np.zeros(10))
    # A difference of 1 in one scene of ten, of 0 elsewhere: errors 0.09 once and -0.01 nine times.
    second = {key: float(key not in ("0", "1")) for key in scenes}
    half = t * np.sqrt(10 / 9 * (0.09**2 + 9 * 0.01**2))
    assert difference_interval(first, second, scenes) == pytest.approx([0.1 - half, 0.1 + half])
    assert difference_interval(first, first, dict.fromkeys(scenes, "one")) is None
    # To first order: mean 1 / 0.9, errors (1 - 1 / 0.9 * b) / (20 * 0.9) by sample.
    errors = ratio_errors(first, second, scenes)
    assert errors.tolist() == pytest.approx([2 / 18, *[2 * (1 - 1 / 0.9) / 18] * 9])
    low, high = interval_around(1 / 0.9, errors.to_numpy(), 0.0) or []
    assert (low + high) / 2 == pytest.approx(1 / 0.9)


@pytest.mark.slow
@pytest.mark.parametrize(("num_scenes", "per_scene"), [(100, 1), (100, 4)])
def test_difference_and_ratio_intervals_cover(num_scenes: int, per_scene: int) -> None:
    rng, covered = np.random.default_rng(3), np.zeros(2)
    scenes = pd.Series(np.arange(num_scenes).repeat(per_scene).astype(str))
    for _ in range(1000):
        first = pd.Series(drawn(rng, 0.9, num_scenes, per_scene, 0.5)).astype(float)
        second = first.where(pd.Series(drawn(rng, 0.85, num_scenes, per_scene, 0.5)), 0.0)
        low, high = difference_interval(second, first, scenes) or []
        errors = ratio_errors(second, first, scenes).to_numpy()
        least, most = interval_around(float(second.mean() / first.mean()), errors, 0.0) or []
        covered += [low <= 0.9 * 0.85 - 0.9 <= high, least <= 0.85 <= most]
    assert all((covered / 1000 >= 0.92) & (covered / 1000 <= 0.98))


def test_bootstrap_is_repeatable_and_knows_its_limits() -> None:
    scenes = {str(index): str(index // 2) for index in range(20)}
    values = {key: float(int(key) % 3 == 0) for key in scenes}
    assert SceneBootstrap(scenes, 100, seed=3).mean(values) == SceneBootstrap(scenes, 100, seed=3).mean(values)
    assert SceneBootstrap(dict.fromkeys(scenes, "one"), 100).mean(values) is None


def test_sign_flip_by_hand_and_beside_scipy() -> None:
    """Three scenes: sums 2, 1 and 1 are all on one side in 2 of 8 patterns; ties count half, with scipy in full."""
    first, second = outcomes("111100"), outcomes("000000")
    scenes = dict(zip(first, "aabcde", strict=True))
    assert sign_flip(first, second, scenes) == 0.125
    assert sign_flip(first, first, scenes) == 1.0
    rng = np.random.default_rng(4)
    for per_scene in (1, 3):
        scores = [{str(n): float(value) for n, value in enumerate(rng.integers(0, 4, 8 * per_scene))} for _ in range(2)]
        scenes = {str(n): str(n // per_scene) for n in range(8 * per_scene)}
        sums = [
            sum(scores[0][k] - scores[1][k] for k in scenes if scenes[k] == scene) for scene in set(scenes.values())
        ]
        theirs = permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf)
        ties = np.mean(np.isclose(np.abs(theirs.null_distribution), abs(sum(sums))))
        assert sign_flip(*scores, scenes) == pytest.approx(theirs.pvalue - ties / 2)


@pytest.mark.parametrize("num_scenes", [15, 100])
def test_sign_flip_rejects_one_null_in_twenty(num_scenes: int) -> None:
    """Two methods of the same accuracy, four alike frames a scene; 3 to 7 % of the runs at the 5 % level."""
    rng = np.random.default_rng(6)
    scenes = {str(n): str(n // 4) for n in range(4 * num_scenes)}
    found = 0
    for _ in range(400):
        bias = rng.normal(size=num_scenes).repeat(4)
        first, second = (
            {k: float(v) for k, v in zip(scenes, sign * bias + rng.normal(size=len(bias)) > 0, strict=True)}
            for sign in (1, -1)
        )
        found += sign_flip(first, second, scenes) < 0.05
    assert 0.03 <= found / 400 <= 0.07
