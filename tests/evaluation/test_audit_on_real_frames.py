"""The audit on real nuScenes images, with a random model of Senna's tokens: that it runs and its geometry holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.run.senna_system import SennaSystem
from senna_prune.files import read_json, read_lines
from senna_prune.model import SennaConfig, SennaForConditionalGeneration, SennaProcessor
from senna_prune.nuscenes.conversion import ConversionSettings, convert
from senna_prune.task.objects import SeenObject
from senna_prune.task.prompts import planning_question
from senna_prune.task.sample import PlanningSample, read_samples, write_samples
from tests.conftest import shared_path
from tests.fakes import tiny_config, tiny_tokenizer

SIZE = (1600, 900)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six views of 336 x 336 pixels, 576 patches and 128 tokens, as Senna has; widths are tiny."""
    settings = tiny_config(num_layers=4, num_view_tokens=128).to_dict()
    settings["vision_config"]["image_size"] = 336
    config, folder = SennaConfig.from_dict(settings), tmp_path_factory.mktemp("senna")
    torch.manual_seed(0)
    SennaForConditionalGeneration(config).save_pretrained(folder)
    SennaProcessor.for_config(config, tiny_tokenizer()).save_pretrained(folder)
    return folder


def audit(model: Path, planning_set: Path, root: Path, kind: str, out: Path) -> SennaSystem:
    overrides = [f"data.planning_set={planning_set}", f"data.image_root={root}", f"data.kinds=[{kind}]"]
    overrides += [f"model.path={model}", "pruning.methods=[random,autoprune]", "pruning.seeds=[0,1,2,3,4,5]"]
    overrides += ["readout.mode=one_pass", "readout.max_text_tokens=1", "scoring.resamples=200", f"output={out}"]
    system = SennaSystem(config := load_config(EvaluationConfig, overrides=overrides))
    evaluate(config, system)
    return system


def check(system: SennaSystem, planning_set: Path, out: Path) -> None:
    for sample in read_samples(planning_set):
        views = system.seen.views(sample)
        for seen in sample.objects or ():
            for camera, box in seen.boxes.items():
                # Images are padded, so all of a box lies on patches: their covered areas are its area.
                covered = views[camera].patch_cover(box).sum() * (max(SIZE) / 24) ** 2
                assert covered == pytest.approx((box[2] - box[0]) * (box[3] - box[1]), rel=1e-6)
        assert system.seen.seeing(sample).any(axis=1).all()
    lines = [line for _, line in read_lines(out / "decisions.jsonl")]
    assert all(line["survival"]["tokens"][0] == 768 for line in lines)
    rows = {row["row"]: row for row in read_json(out / "results.json")["objects"]["rows"]}
    lift = {name: row["overview"]["all objects"]["value"] for name, row in rows.items()}
    # A random adapter shows each object to most tokens of its view, so the oracles may keep the same share of them.
    assert lift["anti_oracle@0.25"] <= lift["oracle@0.25"]
    assert lift["random@0.25"] == pytest.approx(1, abs=0.15)


@pytest.mark.slow
def test_the_mini_key_frame(model: Path, tmp_path: Path) -> None:
    root, path = shared_path("nuscenes_mini"), tmp_path / "set.jsonl"
    (tmp_path / "scenes.txt").write_text("scene-0061")
    convert(
        ConversionSettings(
            root, "v1.0-mini", path, scenes=tmp_path / "scenes.txt", kinds=("vru",), require_images=True, objects=True
        )
    )
    (sample,) = read_samples(path)
    assert len(sample.objects or ()) > 20
    check(audit(model, path, root, "vru", tmp_path / "run"), path, tmp_path / "run")


@pytest.mark.slow
def test_five_frames_with_a_detectors_boxes(model: Path, tmp_path: Path) -> None:
    """Nobody annotated these frames: the boxes are made up."""
    root, draw, samples = shared_path("nuscenes_frames"), np.random.default_rng(0), []
    for number, frame in enumerate(json.loads((root / "frames.json").read_text())):
        seen = []
        for camera in frame["images"]:
            left, top, width, height = draw.uniform([0, 0, 40, 40], [1200, 600, 400, 300]).round(1).tolist()
            seen.append(SeenObject("car", {camera: (left, top, left + width, top + height)}, 10.0 + number))
        asked = (frame["sample_token"], f"s{number}", number, "plan", frame["images"])
        question = planning_question(3, "go straight")
        samples.append(PlanningSample(*asked, question, "KEEP, STRAIGHT", 3.0, objects=tuple(seen)))
    write_samples(path := tmp_path / "set.jsonl", samples)
    check(audit(model, path, root, "plan", tmp_path / "run"), path, tmp_path / "run")
