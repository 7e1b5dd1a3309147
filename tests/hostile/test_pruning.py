"""Hostile methods, options and budgets: one line that names what is wrong, from the tool and from Python."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from senna_prune.errors import PruningError
from senna_prune.pruning import Budget, DecoderCost, make_pruner, method_names, method_options
from tests.conftest import ROOT
from tests.hostile.conftest import Refuse
from tools import eval_planning

HOST: dict[str, Any] = {"num_layers": 32, "num_heads": 32, "num_visual": 768}
HALF, COST, PROFILE = Budget.retention(0.5), DecoderCost(hidden=64, intermediate=128, text=10), {0.1: 1.0, 1.0: 9.0}
NO_NUMBERS: tuple[Any, ...] = ("a", "0.25", b"1", None, True, math.nan, [0.5], (), {"a": 1}, 1j)
NO_NUMBERS += (torch.ones(2), object())
NO_COUNTS = (*NO_NUMBERS, 0, -3, 3.5, math.inf)
NO_SIZES = (*NO_NUMBERS, 0, -1.0, -math.inf, math.inf, 10**5000)
NO_OPTIONS: tuple[Any, ...] = (True, math.nan, -math.inf, 1e308, 10**5000, "\n" * 99, b"1", {"a": 1}, 1j)
NO_OPTIONS += (torch.ones(2), ["x", None], object())
MADE = {
    "retention": Budget.retention,
    "tokens": Budget.tokens,
    "flops": partial(Budget.flops, cost=COST),
    "milliseconds": partial(Budget.milliseconds, profile=PROFILE),
}


def line_of(make: Any, *mentions: str) -> None:
    with pytest.raises(PruningError) as caught:
        make()
    line = str(caught.value)
    assert "\n" not in line and len(line) < 600, line
    assert all(mention.lower() in line.lower() for mention in mentions), line


@pytest.mark.parametrize("name", method_names())
def test_no_option_takes_what_is_none_of_its_values(name: str) -> None:
    for option, default in method_options(name).items():
        for value in NO_OPTIONS if default is None else (*NO_OPTIONS, None):
            line_of(lambda option=option, value=value: make_pruner(name, HALF, **HOST, **{option: value}), option)
    line_of(lambda: make_pruner(name, HALF, **HOST, view_weights=[math.nan, *range(100_000)]), "...")


@pytest.mark.parametrize("kind", MADE)
def test_no_budget_takes_what_is_no_number_above_0(kind: str) -> None:
    for value in NO_SIZES:
        line_of(partial(MADE[kind], value), f"budget.{kind}: ", "is not a number above 0")
        line_of(lambda value=value: Budget(kind, value, cost=COST), f"budget.{kind}: ")  # type: ignore[arg-type]
        if isinstance(value, float | str | None):
            line_of(lambda value=value: Budget.milliseconds(5, {0.1: value, 1.0: 9.0}), "budget.profile")
            line_of(lambda value=value: Budget.milliseconds(5, {value: 0.1, 1.0: 9.0}), "budget.profile")
    for value in (0.25, torch.tensor(0.25), torch.tensor(0.25, dtype=torch.float64).numpy()):
        assert Budget.retention(value) == Budget.retention(0.25) and type(Budget.retention(value).value) is float


def test_parts_of_a_budget_that_do_not_fit() -> None:
    make: Any = Budget
    line_of(lambda: make("retentions", 0.5), "did you mean 'retention'")
    line_of(lambda: make(None, 0.5), "unknown kind None")
    line_of(lambda: make("flops", 0.5), "budget.flops: the cost of a layer is not given")
    line_of(lambda: make.flops(0.5, None), "give a DecoderCost")
    line_of(lambda: make("milliseconds", 5.0), "a profile needs two points")
    line_of(lambda: make.milliseconds(5, None), "budget.profile: None is no profile")
    line_of(lambda: make.retention(0.5, accounting=[]), "budget.accounting")


def test_arguments_of_make_pruner_are_checked() -> None:
    make: Any = make_pruner
    for count in NO_COUNTS:
        for where in HOST:
            if (where, count) != ("num_visual", None):
                line_of(lambda where=where, count=count: make("none", HALF, **HOST | {where: count}), f"{where}: ")
    for budget in (0.25, None, "half"):
        line_of(lambda budget=budget: make("fastv", budget, **HOST), "no budget. Give e.g. Budget.retention(0.25)")
    for name in (None, ["fastv"], "x" * 1000, 3):
        line_of(lambda name=name: make(name, HALF, **HOST), "unknown pruning method")
    for option in ("num_layer", "name", "budget", "stage", "needs", "_solved", "layer"):
        line_of(lambda option=option: make("autoprune", HALF, **HOST, **{option: 3}), f"unknown option {option!r}")
    assert make_pruner("fastv", HALF, **HOST).num_layers == 32


OPTIONS = [
    ("autoprune.k0=.nan", "option k0: nan is not a number"),
    ("autoprune.k0.deeper=1", "option k0: {'deeper': 1} is not a number"),
    ("autoprune.method=null", "None"),
    ("autoprune.method={a: 1}", "{'a': 1}"),
    ("autoprune.num_layers=3", "unknown option 'num_layers'"),
    ("autoprune.view_weights=[1e308,1,1,1,1,1]", "finite"),
    ("autoprune.view_weights=[]", "option view_weights: () is out of range"),
    ("autoprune.view_weights=abc", "'abc' is not a list"),
    ("autoprune.min_tokens_per_view=1e3", "1000.0 is not a whole number"),
    ("random.seed=123456789012345678901234567890", "a number of 97 bits is not a whole number"),
]


@pytest.mark.parametrize(("setting", "mention"), OPTIONS)
def test_the_tool_refuses_options_before_any_work(
    setting: str, mention: str, tmp_path: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    method = setting.partition(".")[0]
    arguments = ["--methods", method, f"pruning.options.{setting}", "--dry-run", f"output={tmp_path}/run"]
    refuse(eval_planning.main, arguments, mention)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["k0", "gamma", "x0", "beta"])
@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize("slope", ["linear", "linear_discrete", "logistic"])
def test_the_largest_numbers_allowed_give_sound_counts(option: str, variant: str, slope: str) -> None:
    for extreme in (-1e6, 1e6):
        for curve in ("logistic", "tanh", "linear", "exponential"):
            options: Any = {option: extreme, "variant": variant, "curve": curve, "slope": slope}
            tokens = make_pruner("autoprune", Budget.retention(0.25), **HOST, **options).plan(768, 32, 2.0).tokens
            assert min(tokens) >= 1
            assert list(tokens) == sorted(tokens, reverse=True)
