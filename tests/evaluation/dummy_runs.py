"""Whole evaluations of the dummy system: what several test files run."""

from __future__ import annotations

from pathlib import Path

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.evaluation.evaluate import evaluate
from tests.evaluation.dummy import DummySystem

METHODS = ["pruning.methods=[autoprune,random,blind]", "pruning.seeds=[0,1]", "scoring.resamples=50"]


def settings(data: Path, folder: Path, *overrides: str) -> EvaluationConfig:
    given = [f"data.planning_set={data}/set.jsonl", f"data.image_root={data}", f"output={folder}", *METHODS]
    return load_config(EvaluationConfig, overrides=[*given, *overrides])


def run(data: Path, folder: Path, *overrides: str, delay: float = 0.0, checkpoint: str = "dummy") -> DummySystem:
    config = settings(data, folder, *overrides)
    system = DummySystem(config, delay, checkpoint)
    evaluate(config, system)
    return system
