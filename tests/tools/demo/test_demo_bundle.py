"""The committed bundle: complete, balanced, and what the code makes."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path as FilePath

import numpy as np
import pytest
from PIL import Image

from senna_prune.nuscenes.conversion import ConversionSettings, convert
from senna_prune.task.labels import Path, Speed, plan_text
from senna_prune.task.sample import read_samples
from tests.conftest import ROOT
from tools.demo.training.driver import RECORD
from tools.demo.training.pictures import world_fingerprint
from tools.demo.world.bundle import NUM_SCENES, WORLD_SEED
from tools.demo.world.rendering import render
from tools.demo.world.rig import HEIGHT, RIG, WIDTH
from tools.demo.world.scenes import make_scene, scene_rng
from tools.demo.world.writing import SPLIT, VERSION, encode_jpeg

BUNDLE = ROOT / "data" / "demo"
SAMPLES = read_samples(BUNDLE / "planning_set.jsonl", "plan")


@pytest.fixture
def same_world() -> None:
    """Between a change of the world and the training of its driver, the bundle is of the world before."""
    record = json.loads((BUNDLE / "model" / RECORD).read_text(encoding="utf-8"))
    if record["world"] != world_fingerprint(record["world_seed"]):
        pytest.skip("the code draws another world than the bundle's driver was trained on")


def test_planning_set_covers_everything() -> None:
    assert sum(path.stat().st_size for path in BUNDLE.rglob("*") if path.is_file()) <= 38_000_000
    assert len(SAMPLES) >= 400
    assert len({sample.scene for sample in SAMPLES}) >= 200
    answers = Counter(sample.answer.strip() for sample in SAMPLES)
    speeds, paths = zip(*(answer.split(", ") for answer in answers), strict=True)
    assert set(speeds) == {speed.value for speed in Speed}
    assert set(paths) == {path.value for path in Path}
    assert max(answers.values()) / len(SAMPLES) <= 0.35


@pytest.mark.slow
@pytest.mark.usefixtures("same_world")
def test_every_answer_is_the_expert_s() -> None:
    assert len(SAMPLES) == NUM_SCENES
    for number, sample in enumerate(SAMPLES):
        situation = make_scene(scene_rng(WORLD_SEED, number)).situation
        assert sample.answer.strip() == plan_text(*situation.plan), sample.scene
        assert sample.command == situation.command.value


def test_planning_set_is_what_the_converter_writes(tmp_path: FilePath) -> None:
    """If this fails after a change of the converter: `python tools/make_demo.py world`, and look at the difference."""
    out = tmp_path / "again.jsonl"
    told = SAMPLES[0].objects is not None  # the next bundle's are
    kinds = ("plan", "vru", "motion")
    convert(ConversionSettings(BUNDLE, VERSION, out, split=SPLIT, kinds=kinds, require_images=True, objects=told))
    assert out.read_bytes() == (BUNDLE / "planning_set.jsonl").read_bytes()


@pytest.mark.usefixtures("same_world")
def test_pictures_are_what_the_code_draws() -> None:
    """But for the last bits of JPEG, which another build of its library may round another way."""
    scene = make_scene(scene_rng(WORLD_SEED, 0))
    for camera, drawn in zip(RIG, render(scene.layout.mesh, scene.layout.light)[0], strict=True):
        with Image.open(BUNDLE / "samples" / camera.channel / f"demo-0000__{camera.channel}.jpg") as picture:
            stored = np.asarray(picture)
        with Image.open(io.BytesIO(encode_jpeg(drawn))) as picture:
            again = np.asarray(picture)
        assert stored.shape == (HEIGHT, WIDTH, 3)
        assert np.abs(stored.astype(int) - again).max() <= 8


def test_model_card_says_what_it_is_not() -> None:
    assert "not nuScenes" in (BUNDLE / "MODEL_CARD.md").read_text(encoding="utf-8")
