"""The example of a planning loop runs, on any checkpoint and planning set."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from PIL import Image

from senna_prune.model import planning_question
from senna_prune.task.labels import CAMERAS
from senna_prune.task.sample import PlanningSample, write_samples
from tests.conftest import ROOT
from tests.fakes import tiny_senna, tiny_views

EXAMPLE = runpy.run_path(str(ROOT / "examples" / "planner_loop.py"))


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    for part in tiny_senna():
        part.save_pretrained(tmp_path / "model")
    for camera, view in zip(CAMERAS, tiny_views(), strict=True):
        Image.fromarray(view).save(tmp_path / f"{camera}.png")
    images = {camera: f"{camera}.png" for camera in CAMERAS}
    question = planning_question(6, "go straight")
    plan = PlanningSample("t0", "scene-1", 0, "plan", images, question, "KEEP, STRAIGHT", 6.0, "go straight")
    other = PlanningSample("t0", "scene-1", 0, "vru", images, question, "No.")
    write_samples(tmp_path / "set.jsonl", [plan, other])
    options = {"--model": "model", "--planning-set": "set.jsonl", "--image-root": "."}
    return [word for option, path in options.items() for word in (option, str(tmp_path / path))]


@pytest.mark.parametrize("method", ["fastervlm", "none"])
def test_every_keyframe_gets_a_plan(arguments: list[str], method: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert EXAMPLE["main"]([*arguments, "--hurry", "--frames", "3", "--method", method]) == 0
    output = capsys.readouterr().out
    assert len(re.findall(r"^t0 .*ms.*visual tokens$", output, flags=re.MULTILINE)) == 3
    assert re.search(r"of 3 plans came later", output)
    assert "48 visual" in output if method == "none" else "12 visual" in output


def test_a_wrong_path_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert EXAMPLE["main"]([*arguments, "--planning-set", "/no/such.jsonl"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("/no/such.jsonl: no such planning set")


def test_histogram_counts_every_latency_and_the_late_ones() -> None:
    text = EXAMPLE["histogram"]([0.1, 0.2, 0.2, 0.7])
    bars = re.findall(r"ms #* +(\d+)$", text, flags=re.MULTILINE)
    assert sum(map(int, bars)) == 4
    assert "median 200 ms" in text
    assert "1 of 4 plans came later" in text
    assert "1 of 1" in EXAMPLE["histogram"]([0.9])
