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
from senna_prune.nuscenes.schema import EgoPose, SampleData, SceneRecord
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


def put(at: int = 0, **values: object) -> Callable[[Records], None]:
    """Set fields of one record."""
    return lambda records: records[at].update(values)


def repeat(at: int = 0, **values: object) -> Callable[[Records], None]:
    """Append one record again, with other values in some fields."""
    return lambda records: records.append(records[at] | values)


def jump(records: Records) -> None:
    """The car is 10 km away in the second scene's last keyframe."""
    for record in records[15 * 7 : 16 * 7]:
        record["translation"] = [10_000.0, 0.0, 0.0]


OTHER = "scene-0916-sample-3"
MARKED = "not a printable name without <image>"
LINKS = {
    "sample": "next",
    "sample_data": "sample_token ego_pose_token calibrated_sensor_token",
    "calibrated_sensor": "sensor_token",
    "sample_annotation": "next sample_token instance_token",
    "instance": "category_token",
    "scene": "first_sample_token",
}
GONE = [(table, put(**{field: "gone"})) for table, fields in LINKS.items() for field in fields.split()]
BROKEN: list[tuple[str, Callable[[Records], None], str]] = [
    # table, change, what the message says
    *(("sample_data", put(3, filename=name), f"'{name}', not a path inside") for name in ("../../x", "/x", "C:x")),
    *((*one, "no record with token 'gone'") for one in GONE),
    ("scene", repeat(), "token 'token-scene-0103' stands in more than one record"),
    ("scene", put(name="scene-0916"), "name 'scene-0916' stands in more than one record"),
    ("ego_pose", repeat(), "stands in more than one record"),
    ("scene", put(first_sample_token=OTHER), f"scene 'token-scene-0103' begins with '{OTHER}' of another scene"),
    ("scene", put(name="<image>"), f"name of 'token-scene-0103' is '<image>', {MARKED}"),
    ("category", put(name="<image>"), f"name of 'category-instance-0' is '<image>', {MARKED}"),
    ("sample_data", repeat(2, token="again"), "two CAM_FRONT_LEFT records, 'again' is one"),
    ("sample_data", lambda records: records.pop(0), "keyframe 'scene-0103-sample-0' has no LIDAR_TOP"),
    ("ego_pose", jump, "jumps 9985 m between 'scene-0916-sample-6' and 'scene-0916-sample-7'"),
    ("sample", put(2, timestamp=7), "time stamps do not increase from 'scene-0103-sample-1'"),
    ("sample", put(2, next="scene-0103-sample-2"), "time stamps do not increase"),
    ("sample", put(2, next=OTHER), f"'scene-0103-sample-2' is followed by '{OTHER}' of another scene"),
    (
        "sample_annotation",
        put(4, next="instance-0-2"),
        "'instance-0-4' is followed by 'instance-0-2', which is no later",
    ),
    ("sample_annotation", put(7, sample_token=OTHER), "'instance-0-6' continues in another scene ('instance-0-7')"),
]


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_contradictions_name_table_and_token(world: Path, number: int) -> None:
    table, change, message = BROKEN[number]
    edit(world, table, change)
    with pytest.raises(TableError, match=rf"\w+\.json: .*{re.escape(message)}"):
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


SCENES: list[tuple[str, bytes, str]] = [
    ("splits.json", b"[]", "not a JSON object"),
    ("splits.json", b'{"mine": 7}', "list of scene names"),
    ("splits.json", b'{"mine": [["a"]]}', "list of scene names"),
    ("splits.json", b"[" * 10_000, "nested too deeply"),
    ("splits.json", b"{}", "unknown split 'mine'"),
    ("scenes.txt", b"\xff\xfe\x00", "not a text"),
    ("scenes.txt", b"", "none of the 0 scenes"),
    ("scenes.json", b"[" * 10_000, "nested too deeply"),
    ("scenes.json", b"[", "not JSON"),
    ("scenes.json", b'{"a": 1}', "not a JSON array"),
    ("scenes.json", b'["scene-0103", 5]', "list of scene names"),
    ("absent.txt", b"", "No such file"),
]


@pytest.mark.parametrize(("name", "content", "message"), SCENES)
def test_spoilt_lists_of_scenes(world: Path, name: str, content: bytes, message: str) -> None:
    path = world / VERSION / name
    if name != "absent.txt":
        path.write_bytes(content)
    tables = KeyframeTables(world, VERSION)
    with pytest.raises(TableError, match=message):
        tables.select_scenes("mine") if name == "splits.json" else tables.select_scenes(scene_file=path)
