"""Hostile places to write, caption caches, imports and options of the converter: refused, and nothing is lost."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from senna_prune.nuscenes import command_line
from senna_prune.task.sample import read_samples
from tests.conftest import ROOT
from tests.hostile import fifo
from tests.hostile.conftest import Refuse
from tests.nuscenes.tiny_tables import VERSION, straight, write_tables
from tools.convert_nuscenes import main

LAYOUTS, UPSTREAM = ("jsonl", "reference"), ("--convention", "upstream")


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
    monkeypatch.chdir(tmp_path)
    root = write_tables(tmp_path / "data", {"scene-0103": straight(8, 5.0)})
    return ["--dataroot", root, "--version", VERSION]


def converted(*options: object) -> None:
    assert command_line.main([str(option) for option in options]) == 0


def convert_apart(*options: object) -> subprocess.CompletedProcess[bytes]:
    """Run the tool in a process of its own."""
    command = [sys.executable, "-m", "tools.convert_nuscenes", *map(os.fsencode, map(str, options))]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}  # as where the locale is neither C nor C.UTF-8
    return subprocess.run(command, cwd=ROOT, env=strict, capture_output=True, timeout=60, check=False)


def device(path: Path) -> None:
    """A device like /dev/full: writing to it fails."""
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 7))
    except PermissionError:
        pytest.skip("only root makes devices")


NODES: dict[str, Callable[[Path], object]] = {
    "FIFO": fifo,
    "folder": Path.mkdir,
    "device": device,
    "loop": lambda at: at.symlink_to(at),
}
ENDINGS = {".summary.png": "--summary", ".missing.txt": "--require-images", ".captions.jsonl": "--captioner=any"}


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("place", [*LAYOUTS, *ENDINGS])
def test_no_node_is_replaced(world: list[object], refuse: Refuse, tmp_path: Path, node: str, place: str) -> None:
    path = tmp_path / f"set{place if place in ENDINGS else ''}"
    NODES[node](path)
    before = path.lstat()
    refuse(main, [*world, "--out", tmp_path / "set", ENDINGS.get(place, f"--format={place}")], str(path), "cannot be")
    assert (path.lstat().st_mode, path.lstat().st_ino) == (before.st_mode, before.st_ino)
    assert place not in ENDINGS or not (tmp_path / "set").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_links_are_written_through_and_streams_stay_streams(world: list[object], tmp_path: Path, layout: str) -> None:
    for ending in ("", ".summary.png"):
        (tmp_path / f"target{ending}").write_text("old")
        (tmp_path / f"set{ending}").symlink_to(f"target{ending}")
    converted(*world, "--format", layout, "--summary", "--out", tmp_path / "set")
    assert all((tmp_path / f"set{ending}").is_symlink() for ending in ("", ".summary.png"))
    assert (tmp_path / "target").read_bytes().startswith(b"[" if layout == "reference" else b"{")
    assert (tmp_path / "target.summary.png").read_bytes().startswith(b"\x89PNG")
    done = convert_apart(*world, "--format", layout, "--out", "/dev/stdout")
    assert (done.returncode, done.stdout) == (0, (tmp_path / "target").read_bytes())
    assert b"2 plan samples" in done.stderr
    converted(*world, "--out", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116


CACHES = [b"my notes", b"my notes\nmore\n", b"{'rate': 0.1}", b'{"rate": 0.1}', b'{"rate": 0.1}\n', b'{\n "rate": 1\n}']
CACHES += [b"[1, 2]", b"[1, 2]\n", bytes(range(256)) * 4, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"[" * 10_000 + b"\n"]
CACHES += [b'{"key": "a", "captions": []}\n', b'{"caption":"red","images":[],"key":"a"}\nmy notes']
CACHES += [b'{"caption":1,"images":[],"key":"a"}\n', b'{"caption":' + b"7" * 5_000 + b"}\n"]


def test_no_other_file_is_taken_for_a_caption_cache(world: list[object], refuse: Refuse, tmp_path: Path) -> None:
    captioned = [*world, "--captioner", "any", "--out", tmp_path / "set"]
    path = tmp_path / "other"
    for content in CACHES:
        path.write_bytes(content)
        refuse(main, [*captioned, "--caption-cache", path], str(path))
        assert path.read_bytes() == content
    for place in ("n" * 300, "/dev/null", "/dev/full", "."):
        refuse(main, [*captioned, "--caption-cache", tmp_path / place], place)
    refuse(main, [*captioned, "--caption-cache", tmp_path / "set"], "captions would be lost")
    assert not (tmp_path / "set").exists()
    converted(*world, "--out", path)
    refuse(main, [*captioned, "--caption-cache", path], f"{path}:1: not a caption")
    assert len(read_samples(path)) == 2


OPTIONS: list[tuple[str, str]] = [
    ("--workers=0", "no number of processes"),
    ("--workers=1000000000", "no number of processes"),
    (f"--workers={'7' * 5_000}", "invalid int value"),
    *((f"--{name}={'v' * 300}", "too long") for name in ("version", "scenes", "out")),
    (f"--out={'o' * 250}", "too long"),  # the listing's name is longer
    ("--scenes=/dev/zero", "no ordinary file"),
    ("--kinds=", "unknown question kind"),
    ("--convention=cameras=upstream", "not a convention"),
]


def test_hostile_options(world: list[object], refuse: Refuse, tmp_path: Path) -> None:
    for option, mention in OPTIONS:
        refuse(main, [*world, "--out", "set", option], mention)
    for option in ENDINGS.values():
        refuse(main, [*world, "--out", "/dev/null", option], "/dev/null", "beside a device")
    table = tmp_path / "data" / VERSION / "sample_data.json"
    table.write_text(table.read_text().replace("samples/CAM_FRONT/", "samples/../../private/"))
    refuse(main, [*world, "--kinds=traffic_light", "--captioner=any", "--out=set"], "sample_data.json", "private")
    assert [path.name for path in tmp_path.iterdir() if path.name != "set.captions.jsonl"] == ["data"]


@pytest.mark.skipif(sys.platform != "linux", reason="file names of other systems are text")
def test_a_place_whose_name_is_no_text(world: list[object], tmp_path: Path) -> None:
    out = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    done = convert_apart(*world, "--out", out)
    assert (done.returncode, done.stderr, len(read_samples(out))) == (0, b"", 2)


NO_SETS = [None, b"", bytes(range(256)), b'[{"token": "a"', b"[" * 10_000, b"[" + b"7" * 5_000 + b"]"]
NO_SETS += [b"{}", b"[1, 2]", b"[{}]", b"[Infinity]"]


def test_files_that_are_no_sets(refuse: Refuse, tmp_path: Path) -> None:
    path, out = tmp_path / "qa.json", tmp_path / "set.jsonl"
    for content in NO_SETS:
        if content is not None:
            path.write_bytes(content)
        refuse(main, ["--import-reference", path, "--out", out], str(path))
        refuse(main, ["--check", path], str(path))
        assert not out.exists()
    refuse(main, ["--check", fifo(tmp_path / "fifo")], "no ordinary file")


def test_conventions_and_time_stamps_of_imports(world: list[object], refuse: Refuse, tmp_path: Path) -> None:
    path, out = tmp_path / "qa.json", tmp_path / "set.jsonl"
    converted(*world, *UPSTREAM, "--format", "reference", "--out", path)
    converted("--import-reference", path, "--out", out)
    assert {sample.convention.name for sample in read_samples(out)} == {"upstream"}
    released = [{k: v for k, v in record.items() if k != "planning_sample"} for record in json.loads(path.read_text())]
    path.write_text(json.dumps(released))
    refuse(main, ["--import-reference", path, "--out", out], "nothing tells the convention", "--convention")
    refuse(main, ["--import-reference", path, "--convention", "corrected", "--out", out], f"{path}, record 0")
    released[0]["images"][0] = "samples/CAM_FRONT/x__" + "7" * 5_000 + ".jpg"  # no time stamp
    path.write_text(json.dumps(released))
    converted("--import-reference", path, *UPSTREAM, "--out", out)
    assert read_samples(out)[0].timestamp == 0
