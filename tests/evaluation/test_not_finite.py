"""Models that overflow: the run stops with one line, and never counts as complete."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from senna_prune.errors import InputError, RunError, SennaPruneError
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.run.records import Decision
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.evaluation.run.system import Appearance
from tests.evaluation.dummy import DummySystem
from tests.evaluation.dummy_runs import run, settings


class Overflowing(DummySystem):
    """Its model overflows at the fourth decision."""

    spoilt = "distribution"
    value = math.nan

    def decide_one(self, *given: Any) -> Decision:
        decision = super().decide_one(*given)
        return self.overflow(decision) if len(self.decided) == 4 else decision

    def overflow(self, decision: Decision) -> Decision:
        if self.spoilt == "distribution":
            return replace(decision, distribution=(*(0.05,) * 19, self.value))
        if self.spoilt == "complexity":
            return replace(decision, trace=msgspec.structs.replace(decision.trace, complexity=self.value))
        raise InputError("the model's output is not finite", hint="set model.dtype")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("spoilt", ["distribution", "complexity", "logits of generate"])
def test_a_model_that_overflows_stops_the_run_and_loses_nothing(
    data: Path, tmp_path: Path, spoilt: str, value: float
) -> None:
    config = settings(data, tmp_path / "run")
    system = Overflowing(config)
    system.spoilt, system.value = spoilt, value
    message = r"^sample token0000/plan/0/corrected, condition random@0\.25#1: .+not finite.+model\.dtype"
    with pytest.raises(SennaPruneError) as caught:
        evaluate(config, system)
    assert caught.match(message)
    assert "\n" not in str(caught.value)
    assert RunFolder(tmp_path / "run").read_info().status == "partial"
    whole = len(run(data, tmp_path / "other").decided)
    assert len(run(data, tmp_path / "run").decided) == whole - 3


def test_weights_that_cannot_be_drawn_are_refused(data: Path, tmp_path: Path) -> None:
    class Broken(DummySystem):
        def load(self) -> Appearance:
            return Appearance([[math.nan] * 16] * 4, padded=True)

    config = settings(data, tmp_path / "run")
    with pytest.raises(RunError, match="weights are not finite"):
        evaluate(config, Broken(config))
