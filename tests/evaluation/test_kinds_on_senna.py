"""Questions about the scene on a tiny random Senna: what reads their answers out, alone and in batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.errors import InputError
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.run.senna_system import SennaSystem
from senna_prune.files import read_lines
from senna_prune.planner.planner import Planner
from senna_prune.task.labels import CAMERAS
from senna_prune.task.prompts import IMAGE_PROMPT
from senna_prune.task.sample import read_samples, write_samples
from tests.evaluation.checkpoint import write_checkpoint, write_planning_set
from tests.evaluation.scene_questions import NOBODY
from tests.fakes import tiny_senna, tiny_views

QUESTION = "Do you see any vulnerable road users?"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    work = tmp_path_factory.mktemp("kinds")
    write_checkpoint(work / "model")
    path = write_planning_set(work / "data", count=3)
    plans = read_samples(path)
    seen = [replace(s, kind="vru", question=IMAGE_PROMPT + QUESTION, answer=NOBODY) for s in plans]
    moves = [
        replace(s, kind="motion", question=f"{s.question} More.", answer="Object 1: KEEP, STRAIGHT") for s in plans
    ]
    write_samples(path, [*plans, *seen, *moves])
    overrides = [f"data.planning_set={path}", f"data.image_root={path.parent}", f"model.path={work}/model"]
    return [*overrides, "data.kinds=[plan,vru,motion]", "scoring.resamples=20", "readout.max_text_tokens=6"]


def decisions(given: list[str], folder: Path, *overrides: str) -> dict[tuple[str, str], dict[str, Any]]:
    config = load_config(EvaluationConfig, overrides=[*given, f"output={folder}", "readout.mode=one_pass", *overrides])
    evaluate(config, SennaSystem(config))
    return {(line["sample"], line["condition"]): line for _, line in read_lines(folder / "decisions.jsonl")}


def test_plans_are_read_as_set_and_other_answers_are_generated(given: list[str], tmp_path: Path) -> None:
    every = decisions(given, tmp_path / "all", "pruning.methods=[autoprune,random]")
    assert len(every) == 3 * 3 * 3
    for line in every.values():
        if line.get("kind") is None:
            assert sum(line["distribution"]) == pytest.approx(1, abs=1e-4)
        else:
            assert line["distribution"] is None
            assert line["readout_positions"] <= 5
    plans = decisions(given, tmp_path / "plans", "pruning.methods=[autoprune,random]", "data.kinds=[plan]")
    assert plans == {key: line for key, line in every.items() if line.get("kind") is None}


def test_batches_answer_as_single_questions_do(given: list[str], tmp_path: Path) -> None:
    """Without pruning, as a score that decides between tokens may differ in its last bits."""
    single = decisions(given, tmp_path / "single", "pruning.methods=[none]")
    batched = decisions(given, tmp_path / "batched", "pruning.methods=[none]", "batch_size=2")
    assert single.keys() == batched.keys()
    for key, line in single.items():
        assert batched[key]["answer"] == line["answer"], key
        assert batched[key]["trace"] == line["trace"]


def test_asking_the_planner_is_generating(given: list[str]) -> None:
    model, processor = tiny_senna()
    planner = Planner(model, processor)
    images = dict(zip(CAMERAS, tiny_views(), strict=True))
    reply = planner.ask(images, QUESTION, max_new_tokens=5)
    assert repr(reply).startswith(f"Reply({reply.text!r}; ") and len(repr(reply)) < 200
    generating = Planner(model, processor, readout="generate", max_new_tokens=5)
    encoded = generating.encode([images[camera] for camera in CAMERAS], IMAGE_PROMPT + QUESTION)
    assert reply.text == generating.decide(encoded).text
    assert reply.readout_positions <= 4
    assert reply.timing.readout > 0
    assert reply.trace.entering == (48,) * 4
    with pytest.raises(InputError, match="question: None is not a question"):
        planner.ask(images, None)  # type: ignore[arg-type]
