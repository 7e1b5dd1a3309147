"""A made-up run as large as Table 3 on nuScenes val: `python -m tests.evaluation.scale FOLDER [SAMPLES]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from msgspec import to_builtins
from msgspec.structs import replace
from senna_prune.journal import to_line

from senna_prune.config import EvaluationConfig, as_yaml, load_config
from senna_prune.evaluation.run.records import Condition, Record, Trace
from senna_prune.evaluation.run.run_folder import RunFolder, RunInfo
from senna_prune.task.labels import CAMERAS, PLANS, plan_text
from senna_prune.task.sample import PlanningSample, write_samples
from tests.evaluation.dummy import QUESTION, SHAPE

SENNA = replace(SHAPE, layers=32, views=6, view_tokens=128, patches=576)
METHODS = ("autoprune", "fastervlm", "sparsevlm", "pyramiddrop", "random", "random", "random", "uniform")
RETENTIONS = (0.2, 0.25, 0.3, 0.35, 0.4)


def conditions() -> tuple[Condition, ...]:
    """`none`, `blind`, and 8 rows or seeds at each of 5 retentions: 42."""
    found = [Condition("none", "none"), Condition("blind", "blind")]
    for share in RETENTIONS:
        for number, name in enumerate(METHODS):
            seed = number - 4 if name == "random" else None
            found.append(Condition(name, name, share, seed, resolved={"positions": "repacked"}))
    return tuple(found)


def make_run(folder: Path, samples: int = 5119, scenes: int = 150) -> Path:
    """A complete run of plans whose lines are as long as Senna's."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images = {camera: f"images/{camera}.jpg" for camera in CAMERAS}
    asked = []
    for number in range(samples):
        truth = plan_text(*PLANS[0 if rng.random() < 0.7 else rng.integers(20)])
        scene = f"scene-{number * scenes // samples:04d}"
        asked.append(
            PlanningSample(f"t{number:05d}", scene, number, "plan", images, QUESTION, truth, 5.0, "go straight")
        )
    write_samples(folder / "planning_set.jsonl", asked)
    config = load_config(EvaluationConfig, overrides=["data.planning_set=set.jsonl", "data.image_root=."])
    settings = {name: value for name, value in _plain(config).items() if name != "output"}
    info = RunInfo("scale", "complete", {}, settings, conditions(), SENNA)
    RunFolder(folder).write_info(info)
    with (
        (folder / "decisions.jsonl").open("w", encoding="utf-8") as lines,
        (folder / "timing.jsonl").open("w") as times,
    ):
        for sample in asked:
            for condition in info.conditions:
                lines.write(to_line(_record(sample, condition, rng).to_dict()))
                spent = {"vision": 20.0, "prefill": round(float(50 + 9 * rng.random()), 3), "readout": 9.0}
                key = {"sample": sample.key, "condition": condition.id}
                times.write(to_line({**key, "milliseconds": spent, "peak_bytes": None}))
    return folder


def _plain(config: EvaluationConfig) -> dict[str, object]:
    from yaml import safe_load

    return dict(safe_load(as_yaml(config)))


def _record(sample: PlanningSample, condition: Condition, rng: np.random.Generator) -> Record:
    kept = 768 if condition.retention is None else round(768 * condition.retention)
    kept = 0 if condition.method == "blind" else kept
    steps = np.full(32, kept)
    if condition.method == "autoprune":
        steps = np.clip(kept + np.rint(rng.normal(0, 9)) + np.linspace(60, -60, 32).round(), 0, 768).astype(int)
    entering = tuple(int(n) for n in steps)
    per_view = tuple((*(n // 6 for _ in range(5)), n - 5 * (n // 6)) for n in entering)
    share = 0.9 if condition.retention is None else 0.7 + 0.4 * condition.retention
    right = rng.random() < share
    complexity = round(float(rng.random()), 6) if condition.method == "autoprune" else None
    probabilities = rng.dirichlet(np.full(20, 0.2)).round(6)
    return Record(
        sample=sample.key,
        condition=condition.id,
        scene=sample.scene,
        convention=sample.convention.name,
        truth=sample.answer,
        answer=sample.answer if right else plan_text(*PLANS[int(rng.integers(20))]),
        trace=Trace(entering, (*entering[1:], entering[-1]), 120, per_view, complexity),
        readout_positions=21,
        distribution=tuple(float(p) for p in probabilities),
    )


if __name__ == "__main__":
    made = make_run(Path(sys.argv[1]), *map(int, sys.argv[2:]))
    print(json.dumps({"folder": str(made), "fields": len(to_builtins(conditions()))}))
