"""Hostile places to write, caption caches, imports and options of the converter: refused, and nothing is lost."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from senna_prune.nuscenes import command_line
from senna_prune.task.sample import read_samples
from tests.conftest import ROOT
from tests.hostile import fifo, refused
from tests.nuscenes.tiny_tables import VERSION, straight, write_tables
from tools import convert_nuscenes

Refuse = Callable[..., str]


class SilentCaptioner:
    """Stands in for a model that takes long to load."""

    name = "silent"

    def __init__(self, checkpoint: str) -> None:
        del checkpoint

    def caption(self, images: Sequence[Path], question: str) -> str:
        return f"{len(images)} {len(question)}"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Options that convert a small world."""
    monkeypatch.setattr("senna_prune.nuscenes.transformers_captioner.TransformersCaptioner", SilentCaptioner)
    root = write_tables(tmp_path / "data", {"scene-0103": straight(8, 5.0)})
    return ["--dataroot", root, "--version", VERSION]


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refuse:
    return lambda arguments, *mentions: refused(capsys, monkeypatch, convert_nuscenes.main, arguments, *mentions)


def converted(*options: object) -> None:
    assert command_line.main([str(option) for option in options]) == 0


def convert_apart(*options: object) -> subprocess.CompletedProcess[bytes]:
    """Run the tool in a process of its own."""
    command = [sys.executable, "-m", "tools.convert_nuscenes", *map(os.fsencode, map(str, options))]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}  # as where the locale is neither C nor C.UTF-8
    return subprocess.run(command, cwd=ROOT, env=strict, capture_output=True, timeout=60, check=False)


def device(path: Path) -> Path:
    """A device like /dev/full: writing to it fails."""
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 7))
    except PermissionError:
        pytest.skip("only root makes devices")
    return path


def dangling(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


NODES: dict[str, Callable[[Path], Path]] = {"FIFO": fifo, "device": device, "link to itself": dangling}
ENDINGS = {".summary.png": "--summary", ".missing.txt": "--require-images", ".captions.jsonl": "--captioner=any"}


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("layout", ["jsonl", "reference"])
def test_no_node_is_replaced_by_a_planning_set(
    world: list[object], refuse: Refuse, tmp_path: Path, node: str, layout: str
) -> None:
    out = NODES[node](tmp_path / "set.jsonl")
    before = out.lstat()
    refuse([*world, "--format", layout, "--out", out], str(out), "cannot be written")
    assert (out.lstat().st_mode, out.lstat().st_ino) == (before.st_mode, before.st_ino)


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_no_node_is_replaced_beside_a_planning_set(
    world: list[object], refuse: Refuse, tmp_path: Path, node: str, ending: str
) -> None:
    beside = NODES[node](tmp_path / f"set.jsonl{ending}")
    before = beside.lstat()
    refuse([*world, "--out", tmp_path / "set.jsonl", ENDINGS[ending]], str(beside))
    assert (beside.lstat().st_mode, beside.lstat().st_ino) == (before.st_mode, before.st_ino)
    assert not (tmp_path / "set.jsonl").exists()


@pytest.mark.parametrize("layout", ["jsonl", "reference"])
def test_links_are_written_through(world: list[object], tmp_path: Path, layout: str) -> None:
    for ending in ("", ".summary.png"):
        (tmp_path / f"target{ending}").write_text("old")
        (tmp_path / f"set.jsonl{ending}").symlink_to(f"target{ending}")
    converted(*world, "--format", layout, "--summary", "--out", tmp_path / "set.jsonl")
    assert all((tmp_path / f"set.jsonl{ending}").is_symlink() for ending in ("", ".summary.png"))
    assert (tmp_path / "target").read_bytes().startswith(b"[" if layout == "reference" else b"{")
    assert (tmp_path / "target.summary.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("layout", ["jsonl", "reference"])
def test_a_planning_set_on_standard_output_stands_alone_there(world: list[object], tmp_path: Path, layout: str) -> None:
    converted(*world, "--format", layout, "--out", tmp_path / "set")
    done = convert_apart(*world, "--format", layout, "--out", "/dev/stdout")
    assert done.returncode == 0
    assert done.stdout == (tmp_path / "set").read_bytes()
    assert b"2 plan samples" in done.stderr


def test_the_null_device_stays_one(world: list[object]) -> None:
    converted(*world, "--out", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116


@pytest.mark.parametrize("option", ENDINGS.values())
def test_nothing_stands_beside_a_device(world: list[object], refuse: Refuse, option: str) -> None:
    refuse([*world, "--out", "/dev/null", option], "/dev/null", "beside a device")


CACHES: dict[str, bytes] = {
    "a text without line break": b"my notes",
    "a text": b"my notes\nmore of them\n",
    "an object on one line without line break": b'{"learning_rate": 0.1}',
    "an object on one line": b'{"learning_rate": 0.1}\n',
    "an object in Python's spelling": b"{'learning_rate': 0.1}",
    "an object on several lines": b'{\n "learning_rate": 0.1\n}',
    "a list": b"[1, 2]",
    "a list with line break": b"[1, 2]\n",
    "a binary file": bytes(range(256)) * 4,
    "a picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "an object of other fields": b'{"key": "a", "captions": []}\n',
    "captions, then something else": b'{"caption":"red","images":[],"key":"a"}\nmy notes',
    "captions of another type": b'{"caption":1,"images":[],"key":"a"}\n',
    "nested deeply": b"[" * 10_000 + b"\n",
    "a long integer": b'{"caption":' + b"7" * 5_000 + b"}\n",
}


@pytest.mark.parametrize("name", CACHES)
def test_some_other_file_is_no_caption_cache(world: list[object], refuse: Refuse, tmp_path: Path, name: str) -> None:
    path = tmp_path / "other"
    path.write_bytes(CACHES[name])
    refuse([*world, "--out", tmp_path / "set.jsonl", "--captioner", "any", "--caption-cache", path], str(path))
    assert path.read_bytes() == CACHES[name]


def test_a_planning_set_is_no_caption_cache(world: list[object], refuse: Refuse, tmp_path: Path) -> None:
    out, other = tmp_path / "set.jsonl", tmp_path / "other.jsonl"
    converted(*world, "--out", out)
    content = out.read_bytes()
    refuse([*world, "--out", other, "--captioner", "any", "--caption-cache", out], f"{out}:1: not a caption")
    refuse([*world, "--out", other, "--captioner", "any", "--caption-cache", other], "captions would be lost")
    assert out.read_bytes() == content
    assert not other.exists()


@pytest.mark.parametrize("name", ["n" * 300, "/dev/null", "/dev/full", "."])
def test_no_place_for_a_caption_cache(world: list[object], refuse: Refuse, tmp_path: Path, name: str) -> None:
    refuse([*world, "--out", tmp_path / "set", "--captioner", "any", "--caption-cache", tmp_path / name], name)


OPTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "no process": (("--workers", "0"), "no number of processes"),
    "a billion processes": (("--workers", "1000000000"), "no number of processes"),
    "processes in 5,000 digits": (("--workers", "7" * 5_000), "invalid int value"),
    "a version too long": (("--version", "v" * 300), "too long"),
    "a list of scenes too long": (("--scenes", "v" * 300), "too long"),
    "a list of scenes without end": (("--scenes", "/dev/zero"), "no ordinary file"),
    "a place too long": (("--out", "o" * 300), "too long"),
    "a place for which the listing is too long": (("--out", "o" * 250), "too long"),
    "no kind": (("--kinds", ""), "unknown question kind"),
    "half a convention": (("--convention", "cameras=upstream"), "not a convention"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_hostile_options(
    world: list[object], refuse: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    options, mention = OPTIONS[name]
    refuse([*world, "--out", tmp_path / "set.jsonl", *options], mention)
    assert not list(tmp_path.glob("o*"))


@pytest.mark.skipif(sys.platform != "linux", reason="file names of other systems are text")
def test_a_place_whose_name_is_no_text(world: list[object], tmp_path: Path) -> None:
    out = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    done = convert_apart(*world, "--out", out)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(read_samples(out)) == 2


IMPORTS: dict[str, bytes] = {
    "absent": b"",
    "empty": b"",
    "binary": bytes(range(256)),
    "cut short": b'[{"token": "a"',
    "nested deeply": b"[" * 10_000,
    "a long integer": b"[" + b"7" * 5_000 + b"]",
    "an object": b"{}",
    "numbers": b"[1, 2]",
    "nothing in a record": b"[{}]",
    "infinite": b"[Infinity]",
}


@pytest.mark.parametrize("name", IMPORTS)
def test_hostile_files_to_import(refuse: Refuse, tmp_path: Path, name: str) -> None:
    path = tmp_path / "qa.json"
    if name != "absent":
        path.write_bytes(IMPORTS[name])
    refuse(["--import-reference", path, "--out", tmp_path / "set.jsonl"], str(path))
    assert not (tmp_path / "set.jsonl").exists()


@pytest.mark.parametrize("name", IMPORTS)
def test_hostile_files_to_check(refuse: Refuse, tmp_path: Path, name: str) -> None:
    path = tmp_path / "set.jsonl"
    if name != "absent":
        path.write_bytes(IMPORTS[name])
    refuse(["--check", path], str(path))


def test_a_planning_set_without_end_is_not_checked(refuse: Refuse, tmp_path: Path) -> None:
    refuse(["--check", fifo(tmp_path / "set.jsonl")], "no ordinary file")


def released(records: list[dict[str, Any]]) -> None:
    for record in records:
        record.pop("planning_sample", None)


RECORDS: dict[str, Callable[[dict[str, Any]], object]] = {
    "numbers for texts": lambda record: record.update(token=7),
    "a lone surrogate": lambda record: record.update(token="\ud800"),
    "infinite positions": lambda record: record.update(ego_fut_trajs=[float("inf")] * 12),
    "a position of 400 digits": lambda record: record.update(ego_fut_trajs=[10**400] * 12),
    "a speed of 5,000 digits": lambda record: record["conversations"][0].update(
        value=record["conversations"][0]["value"].replace("is 5 m/s", f"is {'7' * 5_000} m/s")
    ),
    "seven images": lambda record: record["images"].append("samples/CAM_TOP/x.jpg"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_hostile_records_to_import(world: list[object], refuse: Refuse, tmp_path: Path, name: str) -> None:
    path = tmp_path / "qa.json"
    converted(*world, "--convention", "upstream", "--format", "reference", "--out", path)
    records = json.loads(path.read_text())
    released(records)
    RECORDS[name](records[1])
    path.write_text(json.dumps(records))
    refuse(
        ["--import-reference", path, "--convention", "upstream", "--out", tmp_path / "set.jsonl"], f"{path}, record 1"
    )


def test_an_image_stamp_of_5000_digits_is_no_time(world: list[object], tmp_path: Path) -> None:
    path, out = tmp_path / "qa.json", tmp_path / "set.jsonl"
    converted(*world, "--convention", "upstream", "--format", "reference", "--out", path)
    records = json.loads(path.read_text())
    released(records)
    records[0]["images"][0] = "samples/CAM_FRONT/x__" + "7" * 5_000 + ".jpg"
    path.write_text(json.dumps(records))
    converted("--import-reference", path, "--convention", "upstream", "--out", out)
    assert read_samples(out)[0].timestamp == 0


def test_an_import_without_convention_is_asked_for_it(world: list[object], refuse: Refuse, tmp_path: Path) -> None:
    path, out = tmp_path / "qa.json", tmp_path / "set.jsonl"
    converted(*world, "--format", "reference", "--out", path)
    converted("--import-reference", path, "--out", out)
    assert {sample.convention.name for sample in read_samples(out)} == {"corrected"}
    records = json.loads(path.read_text())
    released(records)
    path.write_text(json.dumps(records))
    refuse(["--import-reference", path, "--out", out], "nothing tells the convention", "--convention")


def test_a_captioned_picture_stays_inside_the_data_root(world: list[object], refuse: Refuse, tmp_path: Path) -> None:
    table = tmp_path / "data" / VERSION / "sample_data.json"
    table.write_text(table.read_text().replace("samples/CAM_FRONT/", "samples/../../private/"))
    options = ["--kinds", "traffic_light", "--captioner", "any", "--out", tmp_path / "set.jsonl"]
    refuse([*world, *options], "sample_data.json", "private")
