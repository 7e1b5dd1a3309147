"""Every question and answer that the released converter writes about real keyframes."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from senna_prune.nuscenes.conversion import ConversionSettings
from senna_prune.nuscenes.scene import read_scene
from senna_prune.nuscenes.scene_samples import scene_samples
from senna_prune.nuscenes.schema import SceneRecord
from senna_prune.nuscenes.tables import KeyframeTables
from senna_prune.task.labels import Convention
from senna_prune.task.sample import PlanningSample
from tests.conftest import golden_cases, shared_path

UPSTREAM = Convention("upstream", "upstream")
KINDS = ("plan", "vru", "motion")

pytestmark = pytest.mark.golden


@cache
def converted(convention: Convention) -> dict[str, list[PlanningSample]]:
    """Samples of every real scene, by scene token."""
    root, sources = shared_path("nuscenes_mini"), dict.fromkeys(KINDS, "")
    tables = KeyframeTables(root, "v1.0-mini")
    settings = ConversionSettings(root, "v1.0-mini", Path("unused"), kinds=KINDS, convention=convention)
    return {
        record.token: scene_samples(read_scene(tables, record, boxes=True), settings, sources).samples
        for record in tables.all(SceneRecord)
    }


def recorded_scenes(path: Path) -> dict[str, list[dict[str, Any]]]:
    """What a golden file records, by scene token."""
    table = json.loads((shared_path("nuscenes_mini") / "v1.0-mini" / "sample.json").read_text())
    scene_of = {sample["token"]: sample["scene_token"] for sample in table}
    scenes = defaultdict(list)
    for record in json.loads(path.read_text()):
        scenes[scene_of[record["token"]]].append(record)
    return scenes


@pytest.mark.parametrize("path", golden_cases("senna_qa/*.json"), ids=lambda path: path.name)
def test_upstream_is_byte_identical(path: Path) -> None:
    for scene, recorded in recorded_scenes(path).items():
        samples = converted(UPSTREAM)[scene]
        ours = [(s.token, s.kind, s.question, s.answer, list(s.view_paths())) for s in samples]
        assert ours == [(r["token"], r["kind"], r["question"], r["answer"], r["images"]) for r in recorded]


@pytest.mark.parametrize("path", golden_cases("senna_qa/*.json"), ids=lambda path: path.name)
def test_trajectories_are_the_recorded_ones(path: Path) -> None:
    for scene, recorded in recorded_scenes(path).items():
        for sample, record in zip(converted(UPSTREAM)[scene], recorded, strict=True):
            assert sample.trajectory is not None
            points = [coordinate for point in sample.trajectory for coordinate in point]
            assert points == pytest.approx(record["ego_fut_trajs"][: len(points)], abs=1.1e-4)
            assert (len(points) == 12) == (record["fut_valid_flag"] == "True")


@pytest.mark.parametrize("path", golden_cases("senna_qa/*.json"), ids=lambda path: path.name)
def test_each_correction_changes_its_half_alone(path: Path) -> None:
    cameras, command = Convention("corrected", "upstream"), Convention("upstream", "corrected")
    for scene in recorded_scenes(path):
        for both, one, other in zip(
            converted(UPSTREAM)[scene], converted(cameras)[scene], converted(command)[scene], strict=True
        ):
            assert (one.question, one.answer) == (both.question, both.answer)
            assert one.view_paths() != both.view_paths()
            assert other.view_paths() == both.view_paths()
            assert other.answer == both.answer
            assert other.question.replace(str(other.command), "") == both.question.replace(str(both.command), "")


@pytest.mark.parametrize("path", golden_cases("senna_qa/*.json"), ids=lambda path: path.name)
def test_corrected_commands_never_tell_the_opposite_turn(path: Path) -> None:
    told: dict[str, set[str | None]] = defaultdict(set)
    for scene in recorded_scenes(path):
        for sample in converted(Convention())[scene]:
            if sample.kind == "plan":
                told[sample.answer.strip().split(", ")[1]].add(sample.command)
    assert not {command for command in told["RIGHT_TURN"] if command and "left" in command}
    assert not {command for command in told["LEFT_TURN"] if command and "right" in command}
