"""What the examples' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from senna_prune.task.labels import CAMERAS
from senna_prune.task.prompts import planning_question
from senna_prune.task.sample import PlanningSample, write_samples
from tests.fakes import tiny_senna, tiny_views


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
