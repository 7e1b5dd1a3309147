"""Statistics on cases worked out by hand or known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import permutation_test

from senna_prune.errors import RunError
from senna_prune.evaluation.score.statistics import SceneBootstrap, holm, mcnemar, sign_flip, wilson


def outcomes(pattern: str) -> dict[str, bool]:
    return {str(index): mark == "1" for index, mark in enumerate(pattern)}


def test_mcnemar_by_hand() -> None:
    # Five discordant pairs, all in favour of the first: 2 * (1/2)^5.
    result = mcnemar(outcomes("11111110"), outcomes("00000110"))
    assert (result.only_first, result.only_second) == (5, 0)
    assert result.p == pytest.approx(2 * 0.5**5)


def test_mcnemar_one_against_three() -> None:
    # Two-sided binomial with n = 4, k = 1: 2 * (1 + 4) / 16.
    result = mcnemar(outcomes("1000"), outcomes("0111"))
    assert result.p == pytest.approx(10 / 16)


def test_mcnemar_without_discordant_pairs() -> None:
    assert mcnemar(outcomes("101"), outcomes("101")).p == 1.0


def test_mismatched_samples_are_refused() -> None:
    with pytest.raises(RunError, match=r"different samples \(1 in one only, first 2\)"):
        mcnemar(outcomes("110"), outcomes("11"))
    with pytest.raises(RunError, match="different samples"):
        SceneBootstrap({"0": "a", "1": "b"}, 10).mean({"0": 1.0})


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


def test_differences_and_ratios_are_paired() -> None:
    rng = np.random.default_rng(2)
    scenes = {str(index): str(index // 4) for index in range(80)}
    first = {key: float(rng.random() < 0.5) for key in scenes}
    bootstrap = SceneBootstrap(scenes, 300)
    same, twice = bootstrap.difference(first, first), bootstrap.ratio({k: 2 * v for k, v in first.items()}, first)
    assert same == [0.0, 0.0]
    assert twice == [2.0, 2.0]


def test_bootstrap_is_repeatable_and_knows_its_limits() -> None:
    scenes = {str(index): str(index // 2) for index in range(20)}
    values = {key: float(int(key) % 3 == 0) for key in scenes}
    assert SceneBootstrap(scenes, 100, seed=3).mean(values) == SceneBootstrap(scenes, 100, seed=3).mean(values)
    assert SceneBootstrap(dict.fromkeys(scenes, "one"), 100).mean(values) is None
    assert SceneBootstrap(scenes, 100).ratio(values, dict.fromkeys(scenes, 0.0)) is None


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
