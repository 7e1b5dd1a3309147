"""A tiny random checkpoint and a planning set with real images, on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from senna_prune.task.labels import CAMERAS, PLANS, plan_text
from senna_prune.task.prompts import planning_question
from senna_prune.task.sample import PlanningSample, write_samples
from tests.fakes import tiny_senna, tiny_views


def write_checkpoint(folder: Path, **sizes: int) -> Path:
    model, processor = tiny_senna(**sizes)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_planning_set(folder: Path, count: int = 4) -> Path:
    """`count` samples, one scene each; returns the file of samples."""
    samples = []
    for number in range(count):
        images = {camera: f"{number}/{camera}.png" for camera in CAMERAS}
        for path, picture in zip(images.values(), tiny_views(number), strict=True):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / path)
        question, answer = planning_question(number, "go straight"), plan_text(*PLANS[number % 20])
        samples.append(PlanningSample(f"t{number}", f"scene-{number}", number, "plan", images, question, answer))
    write_samples(folder / "set.jsonl", samples)
    return folder / "set.jsonl"


def arguments(work: Path, *more: str) -> list[str]:
    """A command line that evaluates the two above, `model` and `data` of one folder, quickly, to `run` beside them."""
    data = work / "data"
    paths = [f"data.planning_set={data}/set.jsonl", f"data.image_root={data}", f"model.path={work}/model"]
    return [*paths, "readout.max_new_tokens=2", "scoring.resamples=20", f"output={work}/run", *more]


def rewrite(path: Path, change: Callable[[dict[str, Any]], object], number: int = 0) -> None:
    """Change one line of a JSON Lines file."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    change(lines[number])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
