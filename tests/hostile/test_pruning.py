"""Hostile methods, options and budgets: one line that names what is wrong, from the tool and from Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from senna_prune.errors import PruningError
from senna_prune.pruning import Budget, DecoderCost, make_pruner
from tests.conftest import ROOT
from tests.hostile import refused
from tools import eval_planning

HOST: dict[str, Any] = {"num_layers": 32, "num_heads": 32, "num_visual": 768}
COST = DecoderCost(hidden=64, intermediate=128, text=10)


@pytest.mark.parametrize(
    ("setting", "mention"),
    [
        ("autoprune.k0=.nan", "option k0: nan is not a number"),
        ("autoprune.x0=-.inf", "option x0: -inf is not a number"),
        ("autoprune.gamma=1e308", "option gamma: 1e+308 is not a number"),
        ("autoprune.beta=true", "option beta: True is not a number"),
        ("autoprune.k0.deeper=1", "option k0: {'deeper': 1} is not a number"),
        ("autoprune.method=null", "None"),
        ("autoprune.method=[fastv]", "fastv"),
        ("autoprune.method={a: 1}", "{'a': 1}"),
        ("autoprune.num_layers=3", "unknown option 'num_layers'"),
        ("autoprune.budget=0.5", "unknown option 'budget'"),
        ("autoprune.name=x", "unknown option 'name'"),
        ("autoprune.stage=nowhere", "unknown option 'stage'"),
        ("autoprune.view_weights=[1e308,1,1,1,1,1]", "finite"),
        ("autoprune.view_weights=[1,.nan,1,1,1,1]", "finite"),
        ("autoprune.view_weights=[]", "option view_weights: () is out of range"),
        ("autoprune.view_weights=abc", "'abc' is not a list"),
        ("autoprune.text_scope=null", "None is not one of question, all_text"),
        ("autoprune.min_tokens_per_view=1e3", "1000.0 is not a whole number"),
        ("random.seed=-1", "option seed: -1 is out of range"),
        ("random.seed=123456789012345678901234567890", "a number of 97 bits is not a whole number"),
        ("pyramiddrop.stages=[]", "option stages: () is out of range"),
        ("pyramiddrop.stages=[1,x,3]", "(1, 'x', 3) is not a list, each a whole number"),
        ("pyramiddrop.ratios=[0.2,0.5,0.1]", "falling ratios"),
        ("pyramiddrop.ratios=[]", "one ratio per stage"),
        ("sparsevlm.layers=[]", "three layers"),
        ("sparsevlm.counts=[]", "three counts"),
        ("sparsevlm.counts=[1.5,2,3]", "(1.5, 2, 3) is not a list"),
        ("sparsevlm_v2.heads=half", "'half' is not a whole number"),
        ("visionzip.contextual=.nan", "option contextual: nan is not a number"),
        ("fastv.layer=99999999999999999999", "is not a whole number"),
    ],
)
def test_options_are_refused_before_any_work(
    setting: str,
    mention: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    method = setting.partition(".")[0]
    arguments = ["--methods", method, f"pruning.options.{setting}", "--dry-run", f"output={tmp_path}/run"]
    refused(capsys, monkeypatch, eval_planning.main, arguments, mention)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: Budget.retention("a"), "budget.retention: 'a' is not a number above 0"),  # type: ignore[arg-type]
        (lambda: Budget.retention("0.25"), "budget.retention: '0.25' is not a number above 0"),  # type: ignore[arg-type]
        (lambda: Budget.retention(None), "budget.retention: None is not a number above 0"),  # type: ignore[arg-type]
        (lambda: Budget.retention(math.nan), "budget.retention: nan is not a number above 0"),
        (lambda: Budget.retention(True), "budget.retention: True is not a number above 0"),
        (lambda: Budget.retention([0.5]), "budget.retention: [0.5] is not a number above 0"),  # type: ignore[arg-type]
        (lambda: Budget.retention(torch.ones(2)), "budget.retention"),  # type: ignore[arg-type]
        (lambda: Budget.retention(10**5000), "a number of 16610 bits is not a number above 0"),
        (lambda: Budget.retention(1j), "budget.retention: 1j is not a number above 0"),  # type: ignore[arg-type]
        (lambda: Budget.retention(0.5, accounting=[]), "budget.accounting"),  # type: ignore[arg-type]
        (lambda: Budget.tokens(-math.inf), "budget.tokens: -inf is not a number above 0"),
        (lambda: Budget("tokens", None), "budget.tokens: None is not a number above 0"),  # type: ignore[arg-type]
        (lambda: Budget("retentions", 0.5), "did you mean 'retention'"),  # type: ignore[arg-type]
        (lambda: Budget(None, 0.5), "unknown kind None"),  # type: ignore[arg-type]
        (lambda: Budget("flops", 0.5), "budget.flops: the cost of a layer is not given"),
        (lambda: Budget.flops(0.5, None), "give a DecoderCost"),  # type: ignore[arg-type]
        (lambda: Budget.flops("half", COST), "budget.flops: 'half' is not a number above 0"),  # type: ignore[arg-type]
        (lambda: Budget("milliseconds", 5.0), "a profile needs two points"),
        (lambda: Budget.milliseconds(5, None), "budget.profile: None is no profile"),  # type: ignore[arg-type]
        (lambda: Budget.milliseconds(5, {0.1: math.nan, 1.0: 9.0}), "budget.profile: nan is not a number above 0"),
        (lambda: Budget.milliseconds(5, {"x": 1.0, 1.0: 9.0}), "budget.profile: 'x' is not a number above 0"),  # type: ignore[dict-item]
        (lambda: Budget.milliseconds("5", {0.1: 1, 1.0: 9}), "budget.milliseconds: '5' is not a number above 0"),  # type: ignore[arg-type]
    ],
)
def test_budgets_of_wrong_type_or_size_are_refused(make: Callable[[], Budget], where: str) -> None:
    with pytest.raises(PruningError) as caught:
        make()
    assert where.lower() in str(caught.value).lower()


@pytest.mark.parametrize("value", [0.25, torch.tensor(0.25), torch.tensor(0.25, dtype=torch.float64).numpy()])
def test_numbers_of_any_numeric_type_are_a_budget(value: Any) -> None:
    budget = Budget.retention(value)
    assert budget == Budget.retention(0.25)
    assert type(budget.value) is float


@pytest.mark.parametrize(
    ("arguments", "options", "mention"),
    [
        (("fastv", 0.25), {}, "budget: 0.25 is no budget. Give e.g. Budget.retention(0.25)"),
        (("fastv", None), {}, "budget: None is no budget"),
        ((None, Budget.retention(0.5)), {}, "unknown pruning method None"),
        ((["fastv"], Budget.retention(0.5)), {}, "unknown pruning method ['fastv']"),
        (("x" * 1000, Budget.retention(0.5)), {}, "unknown pruning method"),
        (("none", Budget.retention(0.5)), {"num_layers": None}, "num_layers: None is not a count"),
        (("none", Budget.retention(0.5)), {"num_layers": 0}, "num_layers: 0 is not a count"),
        (("none", Budget.retention(0.5)), {"num_heads": 3.5}, "num_heads: 3.5 is not a count"),
        (("none", Budget.retention(0.5)), {"num_visual": True}, "num_visual: True is not a count"),
        (("fastv", Budget.retention(0.5)), {"positions": torch.ones(2)}, "is not one of original, repacked"),
        (("fastv", Budget.retention(0.5)), {"positions": ["original"]}, "is not one of original, repacked"),
        (("fastv", Budget.retention(0.5)), {"view_weights": list(range(100_000))}, "..."),
        (("fastv", Budget.retention(0.5)), {"count": 10**5000}, "a number of 16610 bits"),
    ],
)
def test_arguments_of_make_pruner_are_checked(
    arguments: tuple[Any, ...], options: dict[str, Any], mention: str
) -> None:
    options = {**HOST, **options}
    if len(options.get("view_weights", ())) > 1000:
        options["view_weights"][0] = math.nan
    with pytest.raises(PruningError) as caught:
        make_pruner(*arguments, **options)
    assert mention in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_a_pruner_knows_the_depth_it_is_built_for() -> None:
    assert make_pruner("fastv", Budget.retention(0.5), **HOST).num_layers == 32


@pytest.mark.parametrize("extreme", [-1e6, 1e6])
@pytest.mark.parametrize("option", ["k0", "gamma", "x0", "beta"])
@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize("slope", ["linear", "linear_discrete", "logistic"])
def test_the_largest_numbers_allowed_give_sound_counts(extreme: float, option: str, variant: str, slope: str) -> None:
    for curve in ("logistic", "tanh", "linear", "exponential"):
        options = {option: extreme, "variant": variant, "curve": curve, "slope": slope}
        found = make_pruner("autoprune", Budget.retention(0.25), **HOST, **options).resolve(768, 32, 2.0)
        assert min(found.plan.tokens) >= 1
        assert list(found.plan.tokens) == sorted(found.plan.tokens, reverse=True)


def test_ratios_that_round_to_nothing_leave_one_token() -> None:
    policy = make_pruner("pyramiddrop", Budget.retention(0.5), **HOST, ratios=(1e-6, 1e-6, 1e-6))
    assert min(policy.plan(768, 32).tokens) == 1
