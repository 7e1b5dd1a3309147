"""The committed bundle: complete, balanced, and what the code makes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path as FilePath

import pytest
from PIL import Image

from senna_prune.demo.world.bundle import NUM_SCENES, WORLD_SEED
from senna_prune.demo.world.rendering import render
from senna_prune.demo.world.rig import HEIGHT, RIG, WIDTH
from senna_prune.demo.world.scenes import make_scene, scene_rng
from senna_prune.demo.world.writing import SPLIT, VERSION, encode_jpeg
from senna_prune.nuscenes.conversion import ConversionSettings, convert
from senna_prune.task.labels import Path, Speed, plan_text
from senna_prune.task.sample import read_samples
from tests.conftest import ROOT

BUNDLE = ROOT / "data" / "demo"


def bundle_is_of_this_world() -> bool:
    """Whether the committed pictures have the size that this world draws: it is regenerated with the next driver."""
    with Image.open(BUNDLE / "samples" / "CAM_FRONT" / "demo-0000__CAM_FRONT.jpg") as picture:
        return picture.size == (WIDTH, HEIGHT)


of_this_world = pytest.mark.skipif(
    not bundle_is_of_this_world(), reason="the bundle still holds the world of the driver before"
)


def test_size() -> None:
    total = sum(path.stat().st_size for path in BUNDLE.rglob("*") if path.is_file())
    assert total <= 20_000_000


def test_planning_set_covers_everything() -> None:
    samples = read_samples(BUNDLE / "planning_set.jsonl")
    assert len(samples) >= 400
    assert len({sample.scene for sample in samples}) >= 200
    answers = Counter(sample.answer.strip() for sample in samples)
    speeds, paths = zip(*(answer.split(", ") for answer in answers), strict=True)
    assert set(speeds) == {speed.value for speed in Speed}
    assert set(paths) == {path.value for path in Path}
    assert max(answers.values()) / len(samples) <= 0.35


@of_this_world
@pytest.mark.slow
def test_every_answer_is_the_expert_s() -> None:
    samples = read_samples(BUNDLE / "planning_set.jsonl")
    assert len(samples) == NUM_SCENES
    for number, sample in enumerate(samples):
        situation = make_scene(scene_rng(WORLD_SEED, number)).situation
        assert sample.answer.strip() == plan_text(*situation.plan), sample.scene
        assert sample.command == situation.command.value


def test_planning_set_is_what_the_converter_writes(tmp_path: FilePath) -> None:
    """If this fails after a change of the converter: `python tools/make_demo.py world`, and look at the difference."""
    out = tmp_path / "again.jsonl"
    kinds = ("plan", "vru", "motion") if bundle_is_of_this_world() else ("plan",)
    convert(ConversionSettings(BUNDLE, VERSION, out, split=SPLIT, kinds=kinds, require_images=True))
    assert out.read_bytes() == (BUNDLE / "planning_set.jsonl").read_bytes()


@of_this_world
def test_pictures_are_what_the_code_draws() -> None:
    scene = make_scene(scene_rng(WORLD_SEED, 0))
    for camera, picture in zip(RIG, render(scene.layout.mesh, scene.layout.light), strict=True):
        path = BUNDLE / "samples" / camera.channel / f"demo-0000__{camera.channel}.jpg"
        assert path.read_bytes() == encode_jpeg(picture)


def test_model_card_says_what_it_is_not() -> None:
    assert "not nuScenes" in (BUNDLE / "MODEL_CARD.md").read_text(encoding="utf-8")
