"""Hostile nuScenes tables: each is refused in one line that names the table and the record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from senna_prune.nuscenes import command_line, tables  # noqa: F401 - loaded before a test gives root's rights away
from tests.conftest import ROOT
from tests.hostile import fifo, refused
from tests.nuscenes.tiny_tables import START, VERSION, edit, straight, write_tables
from tools import convert_nuscenes

Records = list[dict[str, Any]]
Convert = Callable[..., str]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    scenes = {"scene-0103": straight(9, 5.0), "scene-0916": straight(8, 5.0)}
    objects = {"scene-0103": [("vehicle.car", [(20.0, 3.0, 0.0)] * 9)]}
    return write_tables(tmp_path / "data", scenes, objects)


@pytest.fixture
def conversion(world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Convert:
    """Convert the world, which must be refused with the mentions; nothing is written."""

    def run(*mentions: str, options: tuple[object, ...] = ()) -> str:
        out = world.parent / "set.jsonl"
        arguments = ["--dataroot", world, "--version", VERSION, "--kinds", "plan,vru,motion", "--out", out, *options]
        line = refused(capsys, monkeypatch, convert_nuscenes.main, arguments, *mentions)
        assert not list(world.parent.glob("set.jsonl*"))
        return line

    return run


def put(at: int = 0, **values: object) -> Callable[[Records], None]:
    """Set fields of one record."""
    return lambda records: records[at].update(values)


def repeat(at: int = 0, **values: object) -> Callable[[Records], None]:
    """Append one record again, with other values in some fields."""
    return lambda records: records.append(records[at] | values)


def jump(records: Records) -> None:
    """The car is 10 km away in the second scene's last keyframe."""
    for record in records[-7:]:
        record["translation"] = [10_000.0, 0.0, 0.0]


def turn_back(records: Records) -> None:
    records[4]["next"] = "instance-0-2"


RECORDS: dict[str, tuple[str, Callable[[Records], None], tuple[str, ...]]] = {
    # what is wrong: table, change, what the message names
    "tiny quaternion": ("ego_pose", put(rotation=[1e-200, 0, 0, 0]), ("ego_pose.json", "LIDAR_TOP", "unit quaternion")),
    "huge quaternion": ("ego_pose", put(rotation=[1e7, 0, 0, 0]), ("ego_pose.json", "LIDAR_TOP", "unit quaternion")),
    "file name null": ("sample_data", put(3, filename=None), ("sample_data.json", "sample-0-CAM_FRONT_RIGHT", "None")),
    "file name leads out": ("sample_data", put(3, filename="../../x.jpg"), ("sample_data.json", "../../x.jpg")),
    "file name absolute": ("sample_data", put(3, filename="/etc/passwd"), ("sample_data.json", "/etc/passwd")),
    "file name with a line break": ("sample_data", put(3, filename="a\nb.jpg"), ("sample_data.json", "filename of")),
    "file name a lone surrogate": ("sample_data", put(3, filename="\ud800.jpg"), ("sample_data.json", "filename of")),
    "scene twice": ("scene", repeat(), ("scene.json", "'token-scene-0103'", "more than one record")),
    "scene name twice": ("scene", put(name="scene-0916"), ("scene.json", "'scene-0916'", "more than one record")),
    "scene in another's place": (
        "scene",
        put(first_sample_token="scene-0916-sample-0"),
        ("scene.json", "'token-scene-0103'", "'scene-0916-sample-0'"),
    ),
    "scene name with a marker": ("scene", put(name="<image>"), ("scene.json", "name of 'token-scene-0103'")),
    "category with a marker": ("category", put(name="<image>"), ("category.json", "name of 'category-instance-0'")),
    "category a number": ("category", put(name=7), ("category.json", "name of 'category-instance-0' is 7")),
    "two rows of one camera": ("sample_data", repeat(2, token="again"), ("sample_data.json", "two CAM_FRONT_LEFT")),
    "token twice": ("ego_pose", repeat(0), ("ego_pose.json", "more than one record")),
    "token a list": ("sample", put(token=["a"]), ("sample.json", "token of ['a']")),
    "token a number": ("instance", put(token=5), ("instance.json", "token of 5")),
    "pose token an object": ("sample_data", put(ego_pose_token={}), ("sample_data.json", "ego_pose_token of")),
    "key frame flag a text": ("sample_data", put(is_key_frame="no"), ("sample_data.json", "is_key_frame of", "'no'")),
    "jump of 10 km": ("ego_pose", jump, ("ego_pose.json", "'scene-0916-sample-6'", "jumps 9985 m")),
    "time NaN and a cycle": (
        "sample",
        put(2, timestamp=float("nan"), next="scene-0103-sample-2"),
        ("sample.json", "timestamp of 'scene-0103-sample-2' is nan"),
    ),
    "time a text": ("sample", put(2, timestamp="noon"), ("sample.json", "timestamp of", "'noon'")),
    "time beyond 64 bits": ("sample", put(2, timestamp=1 << 70), ("sample.json", "timestamp of")),
    "next a number": ("sample", put(2, next=3), ("sample.json", "next of 'scene-0103-sample-2' is 3")),
    "annotation turns back": ("sample_annotation", turn_back, ("sample_annotation.json", "'instance-0-4'", "no later")),
    "coordinate 1e60": ("ego_pose", put(translation=[1e60, 0, 0]), ("ego_pose.json", "translation of")),
    "coordinate a long integer": ("ego_pose", put(translation=[10**400, 0, 0]), ("ego_pose.json", "translation of")),
    "coordinates texts": ("ego_pose", put(translation=["1", "2", "3"]), ("ego_pose.json", "translation of")),
    "coordinates booleans": ("sample_annotation", put(translation=[True] * 3), ("annotation.json", "'instance-0-0'")),
    "box at NaN": ("sample_annotation", put(translation=[float("nan")] * 3), ("annotation.json", "'instance-0-0'")),
    "rows no records": ("sample", lambda records: records.insert(0, [1]), ("sample.json", "row 0 is [1]")),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_hostile_record_is_named(world: Path, conversion: Convert, name: str) -> None:
    table, change, mentions = RECORDS[name]
    edit(world, table, change)
    if name == "coordinates booleans":  # numpy would mix them with the numbers of the other boxes
        edit(world, table, lambda records: [record.update(translation=[True] * 3) for record in records])
    conversion(*mentions)


FILES: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "empty": lambda path: path.write_bytes(b""),
    "not UTF-8": lambda path: path.write_bytes(b'[{"token": "\xff"}]'),
    "nested deeply": lambda path: path.write_text("[" * 10_000 + "]" * 10_000),
    "an integer of 5,000 digits": lambda path: path.write_text("[" + "7" * 5_000 + "]"),
    "a number": lambda path: path.write_text("7"),
    "a FIFO": lambda path: (path.unlink(), fifo(path)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path)),
    "a dangling link": lambda path: (path.unlink(), path.symlink_to("absent")),
}


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_table_file_is_named(world: Path, conversion: Convert, name: str) -> None:
    FILES[name](world / VERSION / "sample_data.json")
    conversion("sample_data.json")


def test_a_table_that_may_not_be_read(world: Path, conversion: Convert, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def denied(path: Any, flags: int, *mode: Any, **options: Any) -> int:
        if str(path).endswith("ego_pose.json"):
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *mode, **options)

    monkeypatch.setattr(os, "open", denied)
    conversion("ego_pose.json", "Permission denied")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything: give its rights away for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


FOLDERS = {VERSION: (), ".": (), "samples": ("--require-images",), "can_bus": ()}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_may_not_be_entered(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to others
        root = write_tables(Path(place) / "data", {"scene-0103": straight(9, 5.0)})
        for folder in ("samples", "can_bus"):
            (root / folder).mkdir()
        Path(place).chmod(0o777)
        (root / name).chmod(0)
        arguments = ["--dataroot", root, "--version", VERSION, "--out", Path(place) / "set.jsonl", *FOLDERS[name]]
        with as_nobody():
            refused(capsys, monkeypatch, convert_nuscenes.main, arguments, str(root / name), "Permission denied")
        (root / name).chmod(0o755)


CAN_BUS: dict[str, tuple[object, str]] = {
    "years off": ([{"utime": START - 10**14, "vel": [1.0, 0, 0]}], "100000000.0 s from keyframe 0"),
    "faster than any car": ([{"utime": START, "vel": [1e60, 0, 0]}], "at most 100 m/s"),
    "negative times": ([{"utime": -(1 << 62), "vel": [1.0, 0, 0]}], "not in time order"),
    "an object": ({"utime": START}, "not a JSON array"),
    "texts": (["now"], "not a list of CAN-bus poses"),
}


@pytest.mark.parametrize("name", CAN_BUS)
def test_hostile_can_bus_messages(world: Path, conversion: Convert, name: str) -> None:
    messages, mention = CAN_BUS[name]
    (world / "can_bus").mkdir()
    (world / "can_bus" / "scene-0103_pose.json").write_text(json.dumps(messages))
    conversion("scene-0103_pose.json", mention)


def test_can_bus_file_without_an_end(world: Path, conversion: Convert) -> None:
    (world / "can_bus").mkdir()
    fifo(world / "can_bus" / "scene-0103_pose.json")
    conversion("scene-0103_pose.json", "no ordinary file")


@pytest.mark.parametrize("name", ["../../x", "n" * 300])
def test_a_scene_name_that_is_no_file_name(world: Path, conversion: Convert, name: str) -> None:
    (world / "can_bus").mkdir()
    edit(world, "scene", put(name=name))
    conversion(name)


def test_an_image_name_that_is_no_file_name(world: Path, conversion: Convert) -> None:
    (world / "samples").mkdir()
    edit(world, "sample_data", put(1, filename="samples/" + "n" * 300))
    conversion("n" * 300, "too long", options=("--require-images",))


@pytest.mark.parametrize(
    ("content", "mention"),
    [
        ("[]", "not a JSON object"),
        ('{"mine": 7}', "list of scene names"),
        ('{"mine": [["a"]]}', "list of scene names"),
        ("[" * 10_000, "nested too deeply"),
        ("{}", "unknown split 'mine'"),
    ],
)
def test_hostile_splits(world: Path, conversion: Convert, content: str, mention: str) -> None:
    (world / VERSION / "splits.json").write_text(content)
    conversion(mention, options=("--split", "mine"))


@pytest.mark.parametrize(
    ("name", "content", "mention"),
    [
        ("scenes.txt", b"\xff\xfe\x00", "not a text"),
        ("scenes.json", b"[" * 10_000, "nested too deeply"),
        ("scenes.json", b'["scene-0103", 5]', "list of scene names"),
        ("scenes.txt", b"", "none of the 0 scenes"),
    ],
)
def test_hostile_scene_lists(
    world: Path, conversion: Convert, tmp_path: Path, name: str, content: bytes, mention: str
) -> None:
    (tmp_path / name).write_bytes(content)
    conversion(name, mention, options=("--scenes", tmp_path / name))


@pytest.mark.parametrize("version", ["v" * 300, "absent", f"{VERSION}/scene.json", "loop"])
def test_a_version_that_is_no_folder(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    (world / "loop").symlink_to("loop")
    arguments = ["--dataroot", world, "--version", version, "--out", world / "set.jsonl"]
    refused(capsys, monkeypatch, convert_nuscenes.main, arguments, str(world))


def test_pillows_limit_against_bombs_survives_the_devkit() -> None:
    code = (
        "from PIL import Image; limit = Image.MAX_IMAGE_PIXELS; import senna_prune.nuscenes.tables; "
        "raise SystemExit(limit is None or Image.MAX_IMAGE_PIXELS != limit)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
