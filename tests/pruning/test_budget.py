"""Budgets in every unit, and how they are met."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from senna_prune.errors import PruningError
from senna_prune.pruning import Budget, DecoderCost
from senna_prune.pruning.base import LayerCounts
from senna_prune.pruning.budget import bisect_rising
from tests.pruning.scenes import BUDGETED, pruner

VICUNA = DecoderCost(hidden=4096, intermediate=11008, text=271)
GROUPED = DecoderCost(4096, 11008, 271, query_width=4096, key_width=512)


def test_units_of_budgets() -> None:
    assert Budget.retention(0.25).mean_tokens(768) == Budget.tokens(192).mean_tokens(768) == 192
    assert Budget.tokens(900).mean_tokens(768) == 768
    assert (LayerCounts((8, 4, 2), (0, 0, 0)).entering, LayerCounts((8, 4, 2), (0, 0, 0)).after) == (6, 3)
    # Twice the papers' formula.
    n, d, m = 271 + 768, 4096, 11008
    assert VICUNA.layer(768) == 2 * (4 * n * d * d + 2 * n * n * d + 3 * n * d * m)


@pytest.mark.parametrize("name", BUDGETED)
@pytest.mark.parametrize("cost", [VICUNA, GROUPED], ids=["all heads", "grouped queries"])
@pytest.mark.parametrize("text", [None, 30, 60, 600])
def test_flops_budget_counts_what_each_layer_costs_beside_the_samples_own_text(
    name: str, cost: DecoderCost, text: int | None
) -> None:
    found = pruner(name, Budget.flops(0.5, cost)).resolve(768, 32, 0.5, text)
    real = cost if text is None else replace(cost, text=text)
    flops = sum(real.layer(tokens) for tokens in found.plan.tokens[:32])
    assert flops / (32 * real.layer(768)) == pytest.approx(0.5, rel=0.005)
    assert found.note == ""


@pytest.mark.parametrize("name", BUDGETED)
def test_flops_budget_below_the_text_alone_says_so(name: str) -> None:
    assert Budget.flops(0.01, VICUNA).mean_tokens(768) == 0
    found = pruner(name, Budget.flops(0.01, VICUNA)).resolve(768, 32, 0.5)
    assert found.plan.tokens[-1] <= 3
    assert found.note == "nearest reachable: the text alone costs more than the budget"
    # For the text and little else it is met but for rounding.
    found = pruner("fastervlm", Budget.flops(1.0001 * VICUNA.layer(0) / VICUNA.layer(768), VICUNA)).resolve(768, 32)
    assert set(found.plan.tokens[:32]) == {1}
    assert found.note == ""


def test_milliseconds_follow_the_measured_profile() -> None:
    profile = {0.2: 30.0, 0.5: 60.0, 1.0: 100.0}
    assert Budget.milliseconds(45, profile).mean_tokens(768) == pytest.approx(0.35 * 768)
    assert Budget.milliseconds(30, profile).mean_tokens(768) == pytest.approx(0.2 * 768)
    assert Budget.milliseconds(500, profile).mean_tokens(768) == 768
    # A noisy profile is made monotone.
    noisy = {0.2: 30.0, 0.4: 28.0, 1.0: 50.0}
    times = [Budget.milliseconds(t, noisy).mean_tokens(100) for t in (30, 35, 40, 50)]
    assert times == sorted(times)
    assert Budget.milliseconds(30, noisy).mean_tokens(100) == pytest.approx(40)


def test_impossible_budgets_say_where() -> None:
    """Wrong types: `tests/hostile/test_pruning.py`."""
    refusals: list[tuple[Any, str]] = [
        (lambda: Budget.retention(1.2), "budget.retention"),
        (lambda: Budget.retention(0.2, accounting="after"), "budget.accounting"),  # type: ignore[arg-type]
        (lambda: Budget("flops", 0.2, "published", VICUNA), "budget.accounting"),
        (lambda: Budget.milliseconds(10, {0.2: 30.0, 1.0: 50.0}), "budget.milliseconds"),
        (lambda: Budget.milliseconds(10, {0.2: 3.0}), "budget.profile"),
    ]
    for make, where in refusals:
        with pytest.raises(PruningError, match=re.escape(where)):
            make()


def test_an_unreachable_budget_names_the_nearest_and_why() -> None:
    found = pruner("fastv", 0.05).resolve(768, 32)
    assert found.plan.tokens[:4] == (768, 768, 1, 1)
    assert "before the first cut" in found.note
    found = pruner("pyramiddrop", 0.25, layers=1).resolve(768, 1)
    assert found.plan.tokens[0] == 768
    assert "before the first cut" in found.note


def test_published_accounting_of_autoprune() -> None:
    """Tokens entering layers average more than the published mean after them (768 visual tokens, 32 layers)."""
    plan = pruner("autoprune", Budget.retention(0.2, "published"), scaling="none").plan(768, 32, 0.0)
    assert plan.after == pytest.approx(154, rel=0.005)
    assert plan.entering == pytest.approx(177.6, abs=2)
    solved = pruner("autoprune", 0.2).plan(768, 32, 0.0)
    assert solved.entering == pytest.approx(153.6, rel=0.005)


@pytest.mark.parametrize(("retained", "kept"), [(192, [300, 200, 110]), (128, [303, 110, 36]), (64, [66, 30, 17])])
def test_published_accounting_of_sparsevlm_is_its_own_lists(retained: int, kept: list[int]) -> None:
    plan = pruner("sparsevlm", Budget.tokens(retained, "published")).plan(576, 32)
    assert [plan.tokens[b] - plan.merged[b] for b in (3, 7, 16)] == kept


def test_pyramiddrop_keeps_its_stages_while_they_reach_the_budget() -> None:
    def cuts(retention: float) -> list[int]:
        tokens = pruner("pyramiddrop", retention).plan(768, 32).tokens
        return [b for b in range(1, 32) if tokens[b] < tokens[b - 1]]

    assert cuts(0.4) == cuts(0.3) == [8, 16, 24]
    assert cuts(0.2)[0] < 8
    assert "before layers 8, 16, 24" in pruner("pyramiddrop", 0.4).resolve(768, 32).parameter


def test_bisection_finds_the_nearest_step() -> None:
    assert round(bisect_rising(round, 0.0, 100.0, 41.6)) == 42
    assert bisect_rising(lambda x: x, 0.0, 1.0, 5.0) == 1.0
    assert bisect_rising(lambda x: x + 9, 0.0, 1.0, 5.0) == 0.0
