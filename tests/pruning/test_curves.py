"""Retention curves: shapes, areas, the printed and the released policy."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from senna_prune.errors import PruningError
from senna_prune.pruning.budget import Budget
from senna_prune.pruning.clusters import merged_count
from senna_prune.pruning.curve_shapes import Shape, Slope, curve, curve_area, dynamic_slope
from senna_prune.pruning.methods.autoprune import simulate
from tests.pruning.scenes import pruner, scene

SHAPES = get_args(Shape)


@pytest.mark.parametrize("shape", SHAPES)
@given(k=st.sampled_from([0.0, 1e-12, 0.01, 0.2, 0.4, 2.0]), x0=st.floats(5, 25), depth=st.floats(1, 64))
def test_area_is_the_integral(shape: Shape, k: float, x0: float, depth: float) -> None:
    start, end = (curve("linear", x, k, x0) for x in (0, 32))
    kink = 32 * start / (start - end) if start > end else 32  # where the line reaches 0
    points = [min(point, depth) for point in (x0, 32, kink)]
    numeric, _ = quad(lambda x: curve(shape, x, k, x0), 0, depth, points=points, limit=200)
    assert curve_area(shape, k, x0, depth) == pytest.approx(numeric, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_curves_fall_to_nothing_at_most_and_are_flat_without_slope(shape: Shape) -> None:
    falling = [curve(shape, x, 0.3, 14.9) for x in range(100)]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > falling[32] > 0
    assert falling[-1] >= 0
    assert len({curve(shape, x, 0.0, 14.9) for x in range(33)}) == 1
    assert curve(shape, 14.9, 0.4, 14.9) == 0.5 or shape in ("linear", "exponential")
    assert curve(shape, 1e9, 0.4, 14.9) == pytest.approx(0, abs=1e-300)


@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize("accounting", ["entering", "published"])
@pytest.mark.parametrize("shape", SHAPES)
def test_unscaled_curves_on_deep_decoders_keep_counts_sound(shape: Shape, accounting: str, variant: str) -> None:
    """`scaling: none` reads the curve beyond the reference depth."""
    budget = Budget.retention(0.25, accounting)  # type: ignore[arg-type]
    options: dict[str, Any] = {"curve": shape, "scaling": "none", "variant": variant}
    tokens = pruner("autoprune", budget, layers=80, **options).plan(768, 80, 0.0).tokens
    assert min(tokens) >= 1
    assert list(tokens) == sorted(tokens, reverse=True)


def test_a_curve_too_steep_for_the_budget_says_so() -> None:
    found = pruner("autoprune", 0.9, layers=80, curve="linear", scaling="none").resolve(768, 80, 0.0)
    assert found.reached < 0.6 * 768
    assert "falls too steeply" in found.note


@pytest.mark.parametrize("slope", get_args(Slope))
@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize("complexity", [-1e6, -530.0, -520.0, 530.0, 1e6])
def test_extreme_complexities_meet_the_budget_or_say_why(complexity: float, variant: str, slope: str) -> None:
    found = pruner("autoprune", 0.25, variant=variant, slope=slope).resolve(768, 32, complexity)
    assert (found.note == "") == (abs(found.reached - found.target) <= 0.005 * found.target)
    assert found.note in ("", "nearest reachable: the schedule falls too steeply to spend more")


def test_slopes_have_a_floor() -> None:
    assert dynamic_slope(-1e6, 0.4, 0.2, "logistic") == pytest.approx(0, abs=1e-300)
    assert dynamic_slope(50.0, 0.4, 0.2) == 0.0


@pytest.mark.parametrize("complexity", [math.nan, math.inf, -math.inf])
def test_a_complexity_that_is_no_number_is_refused(complexity: float) -> None:
    for retention, variant in ((0.25, "released"), (0.25, "paper"), (1.0, "released")):
        with pytest.raises(PruningError, match=rf"the complexity is {complexity}.*bfloat16 or float32"):
            pruner("autoprune", retention, variant=variant).plan(768, 32, complexity)


def test_a_harder_question_keeps_tokens_longer() -> None:
    """Eq. 8: low information -> steep, late descent; high information -> few tokens early, many late."""
    for variant in ("released", "paper"):
        hard = pruner("autoprune", 0.25, variant=variant).plan(768, 32, 0.2).tokens
        easy = pruner("autoprune", 0.25, variant=variant).plan(768, 32, 1.9).tokens
        assert hard[6] > easy[6]
        assert hard[28] < easy[28]


@pytest.mark.parametrize(("dropped", "clusters"), [(0, 0), (1, 1), (29, 1), (31, 2), (276, 9), (109, 4)])
def test_merged_count(dropped: int, clusters: int) -> None:
    assert merged_count(dropped) == clusters


def test_simulation_counts_clusters_as_tokens_and_keeps_no_fewer_than_none() -> None:
    plan = simulate(100, [60, 40, 90], 150)
    assert plan.tokens == (150, 100, 62, 41, 41)
    assert plan.merged == (0, 0, 2, 1, 0)
    assert simulate(10, [-4, -4], 10).tokens == simulate(10, [0, 0], 10).tokens == (10, 10, 1, 1)


def test_paper_variant_has_no_vision_cut_and_no_merging() -> None:
    policy = pruner("autoprune", 0.25, variant="paper")
    plan = policy.plan(768, 32, 1.0)
    assert plan.tokens[:2] == (768, 768)
    assert set(plan.merged) == {0}
    assert "vision" not in policy.needs


def test_other_depths_follow_the_same_curve() -> None:
    """x0 scales with L/32 and k with 32/L: a decoder of half the depth keeps what every other layer kept."""
    deep = pruner("autoprune", 0.4, variant="paper", layers=64).plan(768, 64, 0.3).tokens
    reference = pruner("autoprune", 0.4, variant="paper", layers=32).plan(768, 32, 0.3).tokens
    assert [abs(deep[2 * layer] - reference[layer]) < 25 for layer in range(4, 32)] == [True] * 28


def test_head_count_scales_the_head_sum() -> None:
    seen = scene([10, 10])
    few, many = (pruner("autoprune", 0.4, heads=heads).complexity(seen).item() for heads in (8, 32))
    unscaled = pruner("autoprune", 0.4, heads=8, scaling="none").complexity(seen).item()
    assert few == pytest.approx(4 * many) == pytest.approx(4 * unscaled)
