"""Hostile nuScenes tables: each is refused in one line that names the table and the record, and nothing is written."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from senna_prune.nuscenes import command_line  # noqa: F401 - loaded before a test gives root's rights away
from senna_prune.nuscenes.schema import BOX_TABLES, POSE_TABLES, Quaternion, Record, Time, Token, Vector
from tests.conftest import ROOT
from tests.hostile import fifo
from tests.hostile.conftest import Refuse
from tests.nuscenes.tiny_tables import START, VERSION, edit, straight, write_tables
from tools.convert_nuscenes import main

Convert = Callable[..., str]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    scenes = {"scene-0103": straight(9, 5.0), "scene-0916": straight(8, 5.0)}
    return write_tables(tmp_path / "data", scenes, {"scene-0103": [("vehicle.car", [(20.0, 3.0, 0.0)] * 9)]})


@pytest.fixture
def conversion(world: Path, refuse: Refuse) -> Convert:
    """Convert the world, which must be refused with the mentions; nothing is written."""

    def run(*mentions: str, version: str = VERSION, options: tuple[object, ...] = ()) -> str:
        out = world.parent / "set.jsonl"
        arguments = ["--dataroot", world, "--version", version, "--kinds", "plan,vru,motion", "--out", out, *options]
        line = refuse(main, arguments, *mentions)
        assert not list(world.parent.glob("set.jsonl*"))
        return line

    return run


_LINKS: tuple[object, ...] = (None, 7, ["a"], {}, "a\nb", "\ud800")
_VECTORS: tuple[object, ...] = (None, "123", [0.0] * 2, ["1", "2", "3", "4"], [True] * 4, [math.nan, 0, 0, 0])
_VECTORS += ([1e60, 0, 0, 0], [10**400] * 4, [math.inf, 0, 0, 0])
WRONG: dict[Any, tuple[object, ...]] = {
    Token: (*_LINKS, ""),
    str: _LINKS,
    bool: (None, "no", 0, [True]),
    Time: (None, "noon", math.nan, 0.5, -1, 1 << 70, 10**4000, [START]),
    Vector: _VECTORS,
    Quaternion: (*_VECTORS, [0] * 4, [1e-200, 0, 0, 0], [1e7, 0, 0, 0]),
}


@pytest.mark.parametrize("table", [*POSE_TABLES, *BOX_TABLES], ids=lambda table: table.table)
def test_values_that_are_none_are_named(world: Path, conversion: Convert, table: type[Record]) -> None:
    path = world / VERSION / f"{table.table}.json"
    sound = path.read_text()
    for field in msgspec.structs.fields(table):
        for value in WRONG.get(field.type, ()):
            records = json.loads(sound)
            token = records[0]["token"]
            records[0][field.name] = value[:3] if field.type == Vector and isinstance(value, list) else value
            path.write_text(json.dumps(records))
            conversion(path.name, "" if field.name == "token" else token)
            del records[0][field.name]
            path.write_text(json.dumps(records))
            conversion(path.name, "record 0", field.name)
    path.write_text(json.dumps([[1], *json.loads(sound)]))
    conversion(path.name, "row 0 is [1]")


FILES: list[tuple[str, Callable[[Path], object]]] = [
    ("the table is missing", lambda path: None),
    ("the table is missing", lambda path: path.symlink_to("absent")),
    ("the table is missing", lambda path: path.symlink_to(path)),
    ("not JSON", lambda path: path.write_bytes(b'[{"token": "a"')),
    ("not JSON", lambda path: path.write_bytes(b"")),
    ("not JSON ('utf-8'", lambda path: path.write_bytes(b'[{"token": "\xff"}]')),
    ("nested too deeply", lambda path: path.write_text("[" * 10_000 + "]" * 10_000)),
    ("not JSON (Exceeds", lambda path: path.write_text("[" + "7" * 5_000 + "]")),
    ("not a JSON array", lambda path: path.write_text("{}")),
    ("not a JSON array", lambda path: path.write_text("7")),
    ("no ordinary file", fifo),
    ("a folder stands there", Path.mkdir),
]


@pytest.mark.parametrize("table", ["scene", "sample_data", "ego_pose", "sample_annotation"])
def test_a_hostile_table_file_is_named(world: Path, conversion: Convert, table: str) -> None:
    path = world / VERSION / f"{table}.json"
    for mention, make in FILES:
        with suppress(FileNotFoundError):
            path.unlink()
        make(path)
        conversion(path.name, mention)


PLACES: dict[str, tuple[str, ...]] = {VERSION: (), ".": (), "samples": ("--require-images",), "can_bus": ()}


@pytest.mark.parametrize("name", [*PLACES, f"{VERSION}/ego_pose.json"])
def test_what_may_not_be_read(refuse: Refuse, name: str) -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to others
        root = write_tables(Path(place) / "data", {"scene-0103": straight(9, 5.0)})
        for folder in ("samples", "can_bus"):
            (root / folder).mkdir()
        Path(place).chmod(0o777)
        (root / name).chmod(0)
        user = os.geteuid()
        os.seteuid(user or 65534)  # root may read everything: it gives its rights away
        try:
            options = ["--out", Path(place) / "set.jsonl", *PLACES.get(name, ())]
            arguments = ["--dataroot", root, "--version", VERSION, *options]
            refuse(main, arguments, str(root / name), "Permission denied")
        finally:
            os.seteuid(user)
            (root / name).chmod(0o755)


def test_names_that_are_no_file_names(world: Path, conversion: Convert) -> None:
    (world / "loop").symlink_to("loop")
    for version in ("v" * 300, "absent", f"{VERSION}/scene.json", "loop"):
        conversion(str(world), version=version)
    for folder in ("samples", "can_bus"):
        (world / folder).mkdir()
    edit(world, "sample_data", lambda records: records[1].update(filename="samples/" + "n" * 300))
    conversion("n" * 300, "too long", options=("--require-images",))
    for name in ("../../x", "n" * 300):
        edit(world, "scene", lambda records, name=name: records[0].update(name=name))
        conversion(name)


def test_pillows_limit_against_bombs_survives_the_devkit() -> None:
    code = (
        "from PIL import Image; limit = Image.MAX_IMAGE_PIXELS; from senna_prune.nuscenes import tables; "
        "tables._devkit_splits(); raise SystemExit(limit is None or Image.MAX_IMAGE_PIXELS != limit)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
