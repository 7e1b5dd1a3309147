"""Broken tables name the table and the token."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from senna_prune.errors import TableError
from senna_prune.nuscenes.scene import read_scene
from senna_prune.nuscenes.schema import BOX_TABLES, POSE_TABLES, EgoPose, SampleData, SceneRecord
from senna_prune.nuscenes.tables import KeyframeTables, read_scene_file
from tests.nuscenes.tiny_tables import VERSION, edit, straight, write_tables

Records = list[dict[str, Any]]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    scenes = {"scene-0103": straight(8, 5.0), "scene-0916": straight(8, 5.0), "scene-9999": straight(3, 5.0)}
    return write_tables(tmp_path, scenes, {"scene-0103": [("vehicle.car", [(20.0, 3.0, 0.0)] * 8)]})


def read_all(root: Path) -> None:
    tables = KeyframeTables(root, VERSION)
    for record in tables.all(SceneRecord):
        read_scene(tables, record, boxes=True)


def test_a_sound_world_is_read(world: Path) -> None:
    tables = KeyframeTables(world, VERSION)
    scene = read_scene(tables, tables.all(SceneRecord)[0], boxes=True)
    assert (scene.name, len(scene)) == ("scene-0103", 8)
    assert scene.boxes is not None
    assert scene.boxes.names == ("car",) * 8
    assert scene.boxes.next.tolist() == [1, 2, 3, 4, 5, 6, 7, -1]
    assert scene.images[2]["CAM_BACK"].startswith("samples/CAM_BACK/scene-0103__CAM_BACK__")


def set_field(field: str, value: object, at: int = 2) -> Callable[[Records], None]:
    def change(records: Records) -> None:
        records[at][field] = value

    return change


BROKEN: list[tuple[str, Callable[[Records], None], str]] = [
    ("scene", set_field("first_sample_token", "gone", 0), "sample.json: no record with token 'gone'"),
    ("sample", set_field("next", "gone"), "sample.json: no record with token 'gone'"),
    (
        "sample",
        set_field("next", "scene-0916-sample-3"),
        "sample.json: 'scene-0103-sample-2' is followed by 'scene-0916",
    ),
    ("sample", set_field("timestamp", 7), "sample.json: time stamps do not increase from 'scene-0103-sample-1'"),
    ("sample", set_field("next", "scene-0103-sample-2"), "sample.json: time stamps do not increase"),
    ("sample_data", set_field("sample_token", "gone"), "sample.json: no record with token 'gone'"),
    ("sample_data", set_field("ego_pose_token", "gone", 0), "ego_pose.json: no record with token 'gone'"),
    (
        "sample_data",
        set_field("calibrated_sensor_token", "gone"),
        "calibrated_sensor.json: no record with token 'gone'",
    ),
    (
        "sample_data",
        lambda records: records.pop(0),
        "sample_data.json: keyframe 'scene-0103-sample-0' has no LIDAR_TOP",
    ),
    ("ego_pose", set_field("translation", [float("nan"), 0, 0], 0), "ego_pose.json: translation of 'pose-scene-0103"),
    ("ego_pose", set_field("translation", [0, 0], 0), "ego_pose.json: translation of 'pose-scene-0103"),
    ("ego_pose", set_field("translation", None, 0), "ego_pose.json: translation of 'pose-scene-0103"),
    ("ego_pose", set_field("rotation", [float("inf"), 0, 0, 0], 0), "ego_pose.json: rotation of 'pose-scene-0103"),
    ("ego_pose", set_field("rotation", [0, 0, 0, 0], 0), "ego_pose.json: the rotation of 'pose-scene-0103"),
    ("calibrated_sensor", set_field("rotation", [0] * 4, 0), "sensor.json: the rotation of 'calibrated-LIDAR_TOP'"),
    ("calibrated_sensor", set_field("sensor_token", "gone"), "sensor.json: no record with token 'gone'"),
    ("sample_annotation", set_field("rotation", [0] * 4), "annotation.json: the rotation of 'instance-0-2'"),
    ("sample_annotation", set_field("translation", ["a", 0, 0]), "annotation.json: translation of 'instance-0-2'"),
    ("sample_annotation", set_field("next", "gone"), "sample_annotation.json: no record with token 'gone'"),
    ("sample_annotation", set_field("sample_token", "gone"), "sample.json: no record with token 'gone'"),
    ("sample_annotation", set_field("instance_token", "gone"), "instance.json: no record with token 'gone'"),
    ("instance", set_field("category_token", "gone", 0), "category.json: no record with token 'gone'"),
]


@pytest.mark.parametrize(
    ("table", "change", "message"), BROKEN, ids=lambda value: value if isinstance(value, str) else ""
)
def test_broken_records_name_table_and_token(
    world: Path, table: str, change: Callable[[Records], None], message: str
) -> None:
    edit(world, table, change)
    with pytest.raises(TableError, match=re.escape(message)):
        read_all(world)


def test_annotations_may_not_lead_to_another_scene(world: Path) -> None:
    def move(records: Records) -> None:
        records[7]["sample_token"] = "scene-0916-sample-7"

    edit(world, "sample_annotation", move)
    with pytest.raises(TableError, match=r"'instance-0-6' continues in another scene \('instance-0-7'\)"):
        read_all(world)


@pytest.mark.parametrize("table", [table.table for table in (*POSE_TABLES, *BOX_TABLES)])
def test_missing_and_spoilt_files(world: Path, table: str) -> None:
    path = world / VERSION / f"{table}.json"
    path.write_text(path.read_text()[:-3])
    with pytest.raises(TableError, match=rf"{table}\.json: not JSON"):
        read_all(world)
    path.write_text("{}")
    with pytest.raises(TableError, match=rf"{table}\.json: not a JSON array"):
        read_all(world)
    path.write_text(json.dumps([{"token": "t"}]))
    with pytest.raises(TableError, match=rf"{table}\.json: record 0 \(token 't'\): Object missing required field"):
        read_all(world)
    path.unlink()
    with pytest.raises(TableError, match=rf"{table}\.json: the table is missing"):
        read_all(world)


def test_unknown_version_names_those_there(world: Path) -> None:
    with pytest.raises(TableError, match=r"unknown version 'v1.0-trainval'\. Available here: v1.0-mini"):
        KeyframeTables(world, "v1.0-trainval")
    with pytest.raises(TableError, match="nowhere: no such folder"):
        KeyframeTables(world / "nowhere", VERSION)


def test_sweeps_are_dropped(world: Path) -> None:
    def add_sweep(records: Records) -> None:
        records.append(records[0] | {"token": "sweep", "is_key_frame": False, "ego_pose_token": "pose-sweep"})

    edit(world, "sample_data", add_sweep)
    edit(world, "ego_pose", lambda records: records.append(records[0] | {"token": "pose-sweep"}))
    tables = KeyframeTables(world, VERSION)
    assert len(tables.all(SampleData)) == len(tables.all(EgoPose)) == 19 * 7


def test_devkit_splits(world: Path) -> None:
    tables = KeyframeTables(world, VERSION)
    scenes, absent = tables.select_scenes("mini_val")
    assert [scene.name for scene in scenes] == ["scene-0103", "scene-0916"]
    assert absent == []
    assert len(tables.select_scenes()[0]) == 3
    with pytest.raises(TableError, match="unknown split 'mini_vla'"):
        tables.select_scenes("mini_vla")
    with pytest.raises(TableError, match="none of the 150 scenes of split 'test' is in this version"):
        tables.select_scenes("test")


def test_own_splits_and_scene_lists(world: Path) -> None:
    (world / VERSION / "splits.json").write_text(json.dumps({"mine": ["scene-9999", "scene-0001"], "empty": []}))
    tables = KeyframeTables(world, VERSION)
    scenes, absent = tables.select_scenes("mine")
    assert ([scene.name for scene in scenes], absent) == (["scene-9999"], ["scene-0001"])
    with pytest.raises(TableError, match="none of the 0 scenes"):
        tables.select_scenes("empty")
    listed = world / "scenes.txt"
    listed.write_text("scene-0916  # dark\n\n# scene-0103\nscene-9999\n")
    assert read_scene_file(listed) == ["scene-0916", "scene-9999"]
    assert [scene.name for scene in tables.select_scenes(scene_file=listed)[0]] == ["scene-0916", "scene-9999"]
    assert [scene.name for scene in tables.select_scenes("mini_val", listed)[0]] == ["scene-0916"]


@pytest.mark.parametrize(
    ("text", "problem"), [("[", "not JSON"), ('{"a": 1}', "not a JSON array"), ("[1]", "not a JSON")]
)
def test_spoilt_scene_lists(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "scenes.json"
    with pytest.raises(TableError, match="No such file"):
        read_scene_file(path)
    path.write_text(text)
    with pytest.raises(TableError, match=problem):
        read_scene_file(path)
