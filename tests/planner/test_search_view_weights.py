"""The example that searches tokens per camera: it runs, and finds what a label asks for."""

from __future__ import annotations

import random
import re
import runpy
from types import SimpleNamespace

import pytest

from senna_prune.pruning import Budget, make_pruner
from tests.conftest import ROOT

EXAMPLE = runpy.run_path(str(ROOT / "examples" / "search_view_weights.py"))


def test_the_search_prints_weights_a_configuration_takes(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert EXAMPLE["main"]([*arguments, "--trials", "6", "--retention", "0.5"]) == 0
    output = capsys.readouterr().out
    scores = [float(score) for score in re.findall(r"log-probability (-[\d.]+)", output)]
    assert output.startswith("1 frames; equal weights")
    assert scores == sorted(scores)
    weights = [float(weight) for weight in re.findall(r"view_weights: \[(.*)\]", output)[0].split(", ")]
    budget = Budget.retention(0.5)
    make_pruner("prune2drive", budget, num_layers=4, num_heads=4, num_visual=48, view_weights=weights)
    assert EXAMPLE["main"]([*arguments, "--planning-set", "/no/such.jsonl"]) == 2


def test_a_camera_that_alone_matters_gets_most(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(planner: object, labelled: object, weights: list[float], options: object) -> object:
        return EXAMPLE["Score"](weights[2] / sum(weights), 0.0)

    inside = EXAMPLE["search"].__globals__
    monkeypatch.setitem(inside, "evaluate", evaluate)
    monkeypatch.setitem(inside, "encode", lambda planner, options: [])
    monkeypatch.setitem(inside, "load_senna", lambda path, device: (None, None))
    monkeypatch.setitem(inside, "Planner", lambda model, processor: None)
    weights, score = EXAMPLE["search"](SimpleNamespace(model="", device="cpu", seed=0, trials=200))
    assert score.log_probability > 0.5
    assert max(weights) == weights[2]
    assert min(weights) >= EXAMPLE["LOWEST"]


def test_proposals_begin_anywhere_and_end_near_the_best() -> None:
    draw, best = random.Random(0), [1.0, 0.2, 1.0]
    early = [EXAMPLE["propose"](best, 1, 90, draw) for _ in range(50)]
    late = [EXAMPLE["propose"](best, 80, 90, draw) for _ in range(50)]
    assert max(weights[1] for weights in early) > 0.9
    assert max(weights[1] for weights in late) < 0.6
    assert all(max(weights) == 1 for weights in late)
