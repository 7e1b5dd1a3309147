"""A planner straight from a checkpoint folder, and a plan that prints as one line."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from senna_prune.errors import CheckpointError, PruningError
from senna_prune.planner.planner import Planner, pruner_for
from senna_prune.pruning import Budget
from senna_prune.task.labels import CAMERAS, Readout
from tests.evaluation.checkpoint import write_checkpoint
from tests.fakes import tiny_senna, tiny_views

IMAGES = dict(zip(CAMERAS, tiny_views(0), strict=True))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def test_one_call_equals_the_three_it_replaces(checkpoint: Path) -> None:
    budget = Budget.retention(0.5)
    short = Planner.from_pretrained(checkpoint, "autoprune", budget, {"variant": "paper"}, convention="upstream")
    model, processor = tiny_senna()
    pruner = pruner_for(model, "autoprune", budget, variant="paper")
    long = Planner(model, processor, pruner, convention="upstream")
    plans = [planner.plan(IMAGES, 6.0, "go straight") for planner in (short, long)]
    assert plans[0].trace.entering == plans[1].trace.entering
    assert plans[0].distribution == pytest.approx(plans[1].distribution, abs=1e-5)


def test_how_it_runs_is_handed_on(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", sys.executable)  # stands in for a compiler, which nothing here calls
    planner = Planner.from_pretrained(checkpoint, compiled=True, preprocess="device")
    assert planner.captured is not None and planner.resize_on is not None
    plain = Planner.from_pretrained(checkpoint)
    assert plain.captured is None and plain.resize_on is None


def test_what_is_wrong_is_said_as_before(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(PruningError, match="autoprun"):
        Planner.from_pretrained(checkpoint, "autoprun")
    with pytest.raises(CheckpointError):
        Planner.from_pretrained(tmp_path)


@pytest.mark.parametrize("readout", ["one_pass", "generate"])
def test_a_plan_prints_as_one_line(readout: Readout) -> None:
    model, processor = tiny_senna()
    planner = Planner(model, processor, pruner_for(model, "random", Budget.retention(0.5)), readout)
    shown = str(planner.plan(IMAGES, 6.0, "go straight"))
    assert "\n" not in shown and "tensor" not in shown
    odds = r"; probability 0\.\d\d" if readout == "one_pass" else ""
    assert re.fullmatch(rf"Plan\(.+{odds}; 24\.0 of 48 visual tokens per layer; \d+ ms\)", shown), shown
