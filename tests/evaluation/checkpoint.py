"""A tiny random checkpoint and a planning set with real pictures, on disk."""

from __future__ import annotations

from pathlib import Path

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
