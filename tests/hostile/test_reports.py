"""Hostile run folders and options for tools/report.py: one line and exit 2, or a report without harm."""

from __future__ import annotations

import csv
import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.report import write
from tests.evaluation.dummy import DummySystem, make_planning_set
from tests.hostile import fifo, refused
from tools.report import main

LABEL = "=[/x]<b>$x^$y"
"""Markup of rich, HTML and matplotlib in one label, and the beginning of a spreadsheet's formula."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished dummy run in `work/run`; `work` also holds the pictures it names."""
    work = tmp_path_factory.mktemp("hostile_report")
    make_planning_set(work / "data", scenes=3, per_scene=2)
    overrides = [f"data.planning_set={work}/data/set.jsonl", f"data.image_root={work}/data", f"output={work}/run"]
    overrides += ["scoring.resamples=20", "kept_samples=2"]
    config = load_config(EvaluationConfig, overrides=overrides)
    # YAML would need quotes for these.
    config.name = LABEL.replace("/", "")
    config.pruning.methods = ["autoprune", LABEL, "random"]
    config.pruning.options = {LABEL: {"method": "fastv"}}
    evaluate(config, DummySystem(config), explain_only=True)
    evaluate(config, DummySystem(config))
    return work


@pytest.fixture
def work(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run to damage, in the current folder, naming its pictures relative to it."""
    for name in ("run", "data"):
        shutil.copytree(finished / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    change_json(tmp_path / "run" / "run.json", lambda record: record["settings"]["data"].update(image_root="data"))
    return tmp_path


def change_json(path: Path, change: Callable[[Any], Any]) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    changed = change(record)
    path.write_text(json.dumps(record if changed is None else changed), encoding="utf-8")


def change_line(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the first line of a JSON Lines file."""
    first, *rest = path.read_text(encoding="utf-8").splitlines(keepends=True)
    record = json.loads(first)
    changed = change(record)
    path.write_text(json.dumps(record if changed is None else changed) + "\n" + "".join(rest), encoding="utf-8")


RUN_DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda _: [],
    "a number": lambda _: 5,
    "a text": lambda _: "null",
    "conditions of no type": lambda r: r.update(conditions=5),
    "condition without a label": lambda r: r["conditions"][0].pop("label"),
    "no unpruned condition": lambda r: r["conditions"].pop(0),
    "label with a control character": lambda r: r["conditions"][1].update(label="\x1b[2J"),
    "shape of texts": lambda r: r["shape"].update(layers="many"),
    "no layers": lambda r: r["shape"].update(layers=0),
    "a billion layers": lambda r: r["shape"].update(layers=10**9),
    "no settings": lambda r: r.update(settings=None),
    "scoring of no type": lambda r: r["settings"].update(scoring=3),
    "resamples without end": lambda r: r["settings"]["scoring"].update(resamples=10**15),
    "negative bootstrap seed": lambda r: r["settings"]["scoring"].update(seed=-1),
}


@pytest.mark.parametrize("damage", RUN_DAMAGE)
def test_damaged_run_json(
    damage: str, work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change_json(work / "run" / "run.json", RUN_DAMAGE[damage])
    refused(capsys, monkeypatch, main, [work / "run"])


LINE_DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda _: [1],
    "a number": lambda _: 7,
    "answer of no type": lambda r: r.update(answer=5),
    "condition of no type": lambda r: r.update(condition=[1]),
    "an unknown condition": lambda r: r.update(condition="nobody"),
    "trace of no type": lambda r: r.update(trace=3),
    "counts are texts": lambda r: r["trace"].update(entering=["a", "b", "c", "d"]),
    "counts are NaN": lambda r: r["trace"].update(entering=[float("nan")] * 4),
    "complexity is infinite": lambda r: r["trace"].update(complexity=float("inf")),
    "too few layers": lambda r: r["trace"].update(entering=[24]),
    "too few views": lambda r: r["trace"].update(per_view=[[4]] * 4),
    "more tokens than there are": lambda r: r["trace"].update(entering=[10**15] * 4),
    "negative counts": lambda r: r["trace"].update(after=[-1] * 4),
    "depths of another model": lambda r: r["trace"].update(depths=[1]),
    "a convention that is a path": lambda r: r.update(convention="../../x"),
    "a truth that is no plan": lambda r: r.update(truth="hm"),
    "an error without a message": lambda r: r.update(answer=None, error={"type": "x"}),
    "negative readout": lambda r: r.update(readout_positions=-10),
}


@pytest.mark.parametrize("damage", LINE_DAMAGE)
def test_damaged_decision(
    damage: str, work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change_line(work / "run" / "decisions.jsonl", LINE_DAMAGE[damage])
    refused(capsys, monkeypatch, main, [work / "run"])


FILE_DAMAGE: dict[str, Callable[[Path], Any]] = {
    "run.json is nested too deeply": lambda run: (run / "run.json").write_text("[" * 10_000),
    "run.json is a FIFO": lambda run: ((run / "run.json").unlink(), fifo(run / "run.json")),
    "decisions are a FIFO": lambda run: ((run / "decisions.jsonl").unlink(), fifo(run / "decisions.jsonl")),
    "decisions are no JSON": lambda run: (run / "decisions.jsonl").write_text("hello\n"),
    "times are a number": lambda run: change_line(run / "timing.jsonl", lambda _: 3),
    "times are texts": lambda run: change_line(run / "timing.jsonl", lambda r: r.update(milliseconds={"vision": "x"})),
    "times are NaN": lambda run: change_line(
        run / "timing.jsonl", lambda r: r.update(milliseconds={"vision": float("nan")})
    ),
    "peak memory is a text": lambda run: change_line(run / "timing.jsonl", lambda r: r.update(peak_bytes="much")),
    "no planning set": lambda run: (run / "planning_set.jsonl").unlink(),
    "planning set is a number": lambda run: (run / "planning_set.jsonl").write_text("1\n"),
    "appearance is a list": lambda run: (run / "appearance.json").write_text("[]"),
    "appearance is of another model": lambda run: change_json(run / "appearance.json", lambda r: r.update(tokens=5)),
    "appearance is no base64": lambda run: change_json(run / "appearance.json", lambda r: r.update(paths="???")),
    "plots is a file": lambda run: (run / "plots").write_text("in the way"),
    "results.csv is a folder": lambda run: (run / "results.csv").mkdir(),
    "report.html is a FIFO": lambda run: fifo(run / "report.html"),
}


@pytest.mark.parametrize("damage", FILE_DAMAGE)
def test_damaged_files(
    damage: str, work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    FILE_DAMAGE[damage](work / "run")
    refused(capsys, monkeypatch, main, [work / "run"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--samples", "-1"],
        ["run", "--samples", "9" * 5000],
        ["run", "--image-root", "nowhere"],
        ["run", "--image-root", "n" * 300],
        ["n" * 300],
        ["run/run.json"],
        ["data"],
        ["run", "--out", "data/set.jsonl"],
        ["run", "--out", "n" * 300],
        ["run", "--protocol", "another"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_options(
    arguments: list[str], work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(capsys, monkeypatch, main, arguments)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the plots, which take most of a report's time."""
    monkeypatch.setattr(write, "draw_plots", lambda *_: [])


def page_of(work: Path) -> tuple[str, dict[str, Any]]:
    """The page, and the data of its sample browser."""
    page = (work / "run" / "report.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return page, json.loads(found[1])


def test_names_are_shown_and_never_obeyed(work: Path) -> None:
    assert main(["run", "--samples", str(10**12)]) == 0
    page, _ = page_of(work)
    assert "<b>" not in page
    assert "=[/x]&lt;b&gt;$x^$y 25 %" in page
    report = (work / "run" / "report.md").read_text(encoding="utf-8")
    assert "<" not in report.replace("<br>", "")  # line breaks of our own in table cells
    assert r"| =\[/x\]&lt;b&gt;\$x^\$y 25 % |" in report
    cells = [cell for row in csv.reader((work / "run" / "results.csv").open(encoding="utf-8")) for cell in row]
    assert f"'{LABEL}" in cells
    assert not [cell for cell in cells if cell[:1] in ("=", "@", "+")]


@pytest.mark.usefixtures("quick")
def test_a_deleted_appearance_is_said(work: Path) -> None:
    (work / "run" / "appearance.json").unlink()
    assert main(["run"]) == 0
    page, data = page_of(work)
    assert data["appearance"] is None
    assert "appearance.json is absent" in page


def broken_png(path: Path) -> None:
    """A PNG whose second chunk has a wrong check sum."""

    def chunk(kind: bytes, content: bytes, wrong: int = 0) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content) ^ wrong)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    pixels = zlib.compress(b"".join(b"\0" + bytes(24) for _ in range(8)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"tEXt", b"a\0b", wrong=1) + chunk(b"IDAT", pixels))


def first_picture(work: Path) -> Path:
    record = json.loads((work / "run" / "planning_set.jsonl").read_text(encoding="utf-8").splitlines()[0])
    return work / "data" / str(record["images"]["CAM_FRONT"])


def shown(data: dict[str, Any]) -> dict[str, Any]:
    """The front picture of the first sample."""
    return next(view["picture"] for view in data["samples"][0]["views"] if view["camera"] == "CAM_FRONT")


PICTURES: dict[str, Callable[[Path], Any]] = {
    "CAM_FRONT": broken_png,
    "CAM_FRONT_LEFT": lambda path: path.write_text("picture"),
    "CAM_FRONT_RIGHT": lambda path: path.mkdir(),
    "CAM_BACK": fifo,
    "CAM_BACK_LEFT": lambda path: Image.new("1", (1, 100_000)).save(path, "PNG"),
    "CAM_BACK_RIGHT": lambda path: Image.fromarray(np.zeros((8, 8), np.uint16)).save(path, "PNG"),
}
"""Unusable pictures: a broken chunk, a text, a folder, a FIFO, far longer than wide, sixteen bits."""


@pytest.mark.usefixtures("quick")
def test_an_unusable_picture_ends_no_report(work: Path) -> None:
    record = json.loads((work / "run" / "planning_set.jsonl").read_text(encoding="utf-8").splitlines()[0])
    for camera, make in PICTURES.items():
        path = work / "data" / record["images"][camera]
        path.unlink()
        make(path)
    assert main(["run"]) == 0
    views = page_of(work)[1]["samples"][0]["views"]
    assert {view["camera"] for view in views if view["picture"]["problem"]} == set(PICTURES)


@pytest.mark.usefixtures("quick")
def test_a_picture_is_drawn_upright(work: Path) -> None:
    turned = Image.new("RGB", (60, 40), "red")
    exif = Image.Exif()
    exif[274] = 6  # rotated by 90 degrees
    turned.save(first_picture(work), exif=exif)
    assert main(["run"]) == 0
    picture = shown(page_of(work)[1])
    assert (picture["width"], picture["height"]) == (40, 60)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("way", ["absolute", "dots", "root", "link"])
def test_a_strangers_run_embeds_no_picture_of_ours(
    way: str, work: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Neither by a name that leads out of the root, nor by a root or a link outside the current folder."""
    secret = tmp_path_factory.mktemp("secret") / "secret.png"
    Image.new("RGB", (20, 20), "red").save(secret)
    names = {"absolute": str(secret), "dots": f"../../{secret.parent.name}/secret.png"}
    root = {"root": str(secret.parent), "link": "link"}.get(way, "data")
    (work / "link").symlink_to(secret.parent)
    change_json(work / "run" / "run.json", lambda record: record["settings"]["data"].update(image_root=root))
    lines = work / "run" / "planning_set.jsonl"
    change_line(lines, lambda record: record["images"].update(CAM_FRONT=names.get(way, "secret.png")))
    assert main(["run"]) == 0
    assert "problem" in shown(page_of(work)[1])
    # The user may name the folder; a name still may not lead out of it.
    assert main(["run", "--image-root", str(secret.parent)]) == 0
    assert ("problem" in shown(page_of(work)[1])) == (way in names)
