"""The examples run on any checkpoint and planning set, and do what they say."""

from __future__ import annotations

import random
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from senna_prune.pruning import Budget, make_pruner
from senna_prune.task.labels import CAMERAS
from senna_prune.task.prompts import planning_question
from senna_prune.task.sample import PlanningSample, write_samples
from tests.conftest import ROOT
from tests.fakes import tiny_senna, tiny_views

LOOP, SEARCH, EMBEDDINGS = (
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"))
    for name in ("planner_loop", "search_view_weights", "prompt_embeddings")
)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Options of an example: a tiny checkpoint, and a set of one planning and one other question."""
    for part in tiny_senna():
        part.save_pretrained(tmp_path / "model")
    for camera, view in zip(CAMERAS, tiny_views(), strict=True):
        Image.fromarray(view).save(tmp_path / f"{camera}.png")
    images = {camera: f"{camera}.png" for camera in CAMERAS}
    question = planning_question(6, "go straight")
    plan = PlanningSample("t0", "scene-1", 0, "plan", images, question, "KEEP, STRAIGHT", 6.0, "go straight")
    other = PlanningSample("t0", "scene-1", 0, "vru", images, question, "No.")
    write_samples(tmp_path / "set.jsonl", [other, plan])
    options = {"--model": "model", "--planning-set": "set.jsonl", "--image-root": "."}
    return [word for option, path in options.items() for word in (option, str(tmp_path / path))]


@pytest.mark.parametrize("method", ["fastervlm", "none"])
def test_every_keyframe_gets_a_plan(arguments: list[str], method: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert LOOP["main"]([*arguments, "--hurry", "--frames", "3", "--method", method]) == 0
    output = capsys.readouterr().out
    assert len(re.findall(r"^t0 .*ms.*visual tokens$", output, flags=re.MULTILINE)) == 3
    assert re.search(r"of 3 plans came later", output)
    assert "48 visual" in output if method == "none" else "12 visual" in output


def test_a_wrong_path_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert LOOP["main"]([*arguments, "--planning-set", "/no/such.jsonl"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("/no/such.jsonl: no such planning set")


def test_histogram_counts_every_latency_and_the_late_ones() -> None:
    text = LOOP["histogram"]([0.1, 0.2, 0.2, 0.7])
    bars = re.findall(r"ms #* +(\d+)$", text, flags=re.MULTILINE)
    assert sum(map(int, bars)) == 4
    assert "median 200 ms" in text
    assert "1 of 4 plans came later" in text
    assert "1 of 1" in LOOP["histogram"]([0.9])


def test_the_search_prints_weights_a_configuration_takes(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert SEARCH["main"]([*arguments, "--trials", "6", "--retention", "0.5"]) == 0
    output = capsys.readouterr().out
    scores = [float(score) for score in re.findall(r"log-probability (-[\d.]+)", output)]
    assert output.startswith("1 frames; equal weights")
    assert scores == sorted(scores)
    weights = [float(weight) for weight in re.findall(r"view_weights: \[(.*)\]", output)[0].split(", ")]
    budget = Budget.retention(0.5)
    make_pruner("prune2drive", budget, num_layers=4, num_heads=4, num_visual=48, view_weights=weights)
    assert SEARCH["main"]([*arguments, "--planning-set", "/no/such.jsonl"]) == 2


def test_a_camera_that_alone_matters_gets_most(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(planner: object, labelled: object, weights: list[float], options: object) -> object:
        return SEARCH["Score"](weights[2] / sum(weights), 0.0)

    inside = SEARCH["search"].__globals__
    monkeypatch.setitem(inside, "evaluate", evaluate)
    monkeypatch.setitem(inside, "encode", lambda planner, options: [])
    monkeypatch.setitem(inside, "load_senna", lambda path, device: (None, None))
    monkeypatch.setitem(inside, "Planner", lambda model, processor: None)
    weights, score = SEARCH["search"](SimpleNamespace(model="", device="cpu", seed=0, trials=200))
    assert score.log_probability > 0.5
    assert max(weights) == weights[2]
    assert min(weights) >= SEARCH["LOWEST"]


def test_proposals_begin_anywhere_and_end_near_the_best() -> None:
    draw, best = random.Random(0), [1.0, 0.2, 1.0]
    early = [SEARCH["propose"](best, 1, 90, draw) for _ in range(50)]
    late = [SEARCH["propose"](best, 80, 90, draw) for _ in range(50)]
    assert max(weights[1] for weights in early) > 0.9
    assert max(weights[1] for weights in late) < 0.6
    assert all(max(weights) == 1 for weights in late)


@pytest.mark.parametrize("method", ["divprune", "cdpruner", "tome"])
def test_the_example_gets_the_pruned_answer(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert EMBEDDINGS["main"](["--method", method]) == 0
    output = capsys.readouterr().out
    assert " 192 of them visual" in output
    plain, planned = re.findall(r"^(?:plain generate|planner):\s+(.+)$", output, flags=re.MULTILINE)
    assert plain == planned
    assert EMBEDDINGS["main"](["--method", "fastv"]) == 2
