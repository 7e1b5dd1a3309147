"""All kinds of questions on real keyframes: nuScenes mini's one with images and five more. The answers of a random
model mean nothing; that everything runs and is reported is the point."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.report.write import write_report
from senna_prune.evaluation.run.senna_system import SennaSystem
from senna_prune.nuscenes.conversion import ConversionSettings, convert
from senna_prune.task.sample import PlanningSample, read_samples, write_samples
from tests.conftest import shared_path
from tests.evaluation.checkpoint import write_checkpoint

KINDS = ("plan", "vru", "motion")


def real_set(out: Path) -> Path:
    """The converter's questions about the keyframe, and the same ones about five frames that have no tables:
    their reference answers are borrowed. Returns the folder that the image paths are relative to."""
    mini, frames = shared_path("nuscenes_mini"), shared_path("nuscenes_frames", "frames.json")
    settings = ConversionSettings(
        mini, "v1.0-mini", out, split="mini_train", kinds=KINDS, require_images=True, descriptions=True
    )
    convert(settings)
    samples = [
        replace(sample, images={camera: f"nuscenes_mini/{path}" for camera, path in sample.images.items()})
        for sample in read_samples(out)
    ]
    assert {sample.kind for sample in samples} == set(KINDS)
    for frame in json.loads(frames.read_text(encoding="utf-8")):
        samples += [_about(sample, frame) for sample in samples if sample.token == samples[0].token]
    write_samples(out, samples)
    return mini.parent


def _about(sample: PlanningSample, frame: dict) -> PlanningSample:
    images = {camera: f"nuscenes_frames/{path}" for camera, path in frame["images"].items()}
    told = {"token": frame["sample_token"], "scene": frame["scene_token"], "description": "Rain, night"}
    return replace(sample, images=images, **told)


@pytest.mark.slow
def test_all_kinds_run_on_real_pictures_and_are_reported(tmp_path: Path) -> None:
    root = real_set(tmp_path / "real.jsonl")
    write_checkpoint(tmp_path / "model")
    given = [f"data.planning_set={tmp_path}/real.jsonl", f"data.image_root={root}", f"model.path={tmp_path}/model"]
    given += ["data.kinds=[plan,vru,motion]", "pruning.methods=[autoprune,random]", "readout.max_text_tokens=4"]
    config = load_config(
        EvaluationConfig, overrides=[*given, "kept_samples=6", "scoring.resamples=20", f"output={tmp_path}/run"]
    )
    evaluate(config, SennaSystem(config))
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    (group,) = results["kinds"]
    assert group["kinds"]["plan"] == {"failed": 0, "samples": 6, "scenes": 2}
    assert group["kinds"]["motion"]["samples"] % 6 == 0
    values = {(entry["facet"], entry["value"]) for entry in results["breakdowns"]}
    assert {("time of day", "day"), ("time of day", "night"), ("weather", "rain")} <= values
    motion = next(row for row in group["rows"] if row["row"] == "none")["kinds"]["motion"]["measures"]
    assert set(motion["cameras"]) <= {"front", "front left", "front right", "back", "back left", "back right"}
    page = write_report(tmp_path / "run", samples=3, image_root=root).read_text(encoding="utf-8")
    assert "Scene understanding and planning" in page
    assert page.count("data:image/jpeg") == 18


@pytest.mark.parametrize("told", [True, False])
def test_descriptions_are_carried_where_asked_for(tmp_path: Path, told: bool) -> None:
    mini = shared_path("nuscenes_mini")
    convert(ConversionSettings(mini, "v1.0-mini", tmp_path / "set.jsonl", split="mini_val", descriptions=told))
    described = {sample.scene: sample.description for sample in read_samples(tmp_path / "set.jsonl")}
    expected = "Parking lot, bicycle rack, parked bicycles, bus, many peds, parked scooters, parked motorcycle"
    assert described["scene-0916"] == (expected if told else "")
    assert ('"description"' in (tmp_path / "set.jsonl").read_text(encoding="utf-8")) == told
