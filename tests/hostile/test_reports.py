"""Hostile run folders and options for tools/report.py: one line and exit 2, or a report without harm."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.report import write
from tests.evaluation.dummy import DummySystem, make_planning_set
from tests.hostile import change, fifo
from tests.hostile.conftest import Refuse
from tests.hostile.test_image_files import chunk, png
from tools.report import main

LABEL = "=[/x]<b>$x^$y"
"""Markup of rich, HTML and matplotlib in one label, and the beginning of a spreadsheet's formula."""
SETTINGS = ["data.planning_set=data/set.jsonl", "data.image_root=data", "output=run", "scoring.resamples=20"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished dummy run in `run`, beside the images it names."""
    work = tmp_path_factory.mktemp("hostile_report")
    make_planning_set(work / "data", scenes=3, per_scene=2)
    config = load_config(EvaluationConfig, overrides=[*SETTINGS, "kept_samples=2"])
    config.name, config.pruning.methods = LABEL.replace("/", ""), ["autoprune", LABEL, "random"]  # YAML needs quotes
    config.pruning.options = {LABEL: {"method": "fastv"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        evaluate(config, DummySystem(config), explain_only=True)
        evaluate(config, DummySystem(config))
    return work


@pytest.fixture
def work(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to damage, in the current folder, whose reports have no plots: these take most of the time."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(write, "draw_plots", lambda *_: [])
    return tmp_path


NAN, RUN, LINE, TIME, LOOKS = float("nan"), "run.json", "decisions.jsonl", "timing.jsonl", "appearance.json"
DAMAGE: list[tuple[Any, ...]] = [
    *((RUN, "", value) for value in ([], 5, "null")),
    *((RUN, f"conditions{end}", *value) for end, *value in (("", 5), (".0.label",), (".0",), (".1.label", "\x1b[2J"))),
    *((RUN, "shape.layers", value) for value in ("many", 0, 10**9)),
    *((RUN, "settings", None), (RUN, "settings.scoring", 3)),
    *((RUN, "settings.scoring.resamples", 10**15), (RUN, "settings.scoring.seed", -1)),
    *((LINE, "", value) for value in ([1], 7)),
    *((LINE, "answer", 5), (LINE, "condition", [1]), (LINE, "condition", "nobody"), (LINE, "trace", 3)),
    *((LINE, "trace.entering", value) for value in (list("abcd"), [NAN] * 4, [24], [10**15] * 4)),
    *((LINE, "trace.complexity", float("inf")), (LINE, "trace.per_view", [[4]] * 4), (LINE, "trace.after", [-1] * 4)),
    *((LINE, "trace.depths", [1]), (LINE, "convention", "../../x"), (LINE, "truth", "hm"), (LINE, "answer", None)),
    *((LINE, "error", {"type": "x"}), (LINE, "readout_positions", -10), (TIME, "", 3), (TIME, "peak_bytes", "much")),
    *((TIME, "milliseconds", {"vision": value}) for value in ("x", NAN)),
    *((LOOKS, "", []), (LOOKS, "tokens", 5), (LOOKS, "paths", "???")),
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: " ".join(map(ascii, damage))[:60])
def test_a_damaged_value_is_refused(damage: Any, work: Path, refuse: Refuse) -> None:
    file, *changed = damage
    change(Path("run", file), *changed)
    refuse(main, ["run"])


WAYS: dict[str, Any] = {
    "fifo": fifo,
    "gone": str,
    "folder": Path.mkdir,
    "text": lambda path: path.write_text("[" * 9999),
}


@pytest.mark.parametrize("file", [RUN, LINE, "planning_set.jsonl", "plots", "results.csv", "report.html"])
@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_file_is_refused(file: str, way: str, work: Path, refuse: Refuse) -> None:
    path = Path("run", file)
    path.unlink(missing_ok=True)
    WAYS[way](path)
    if file in ("plots", "results.csv", "report.html") and way in ("gone", "folder" if file == "plots" else "text"):
        assert main(["run"]) == 0  # it is written anew
    else:
        refuse(main, ["run"])


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just({}) | st.just([[]])


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(file=st.sampled_from([RUN, LINE, TIME, LOOKS, "planning_set.jsonl"]), data=st.data(), value=ANYTHING)
def test_any_value_anywhere_is_one_line_or_harmless(file: str, data: Any, value: Any, work: Path, capsys: Any) -> None:
    path = Path("run", file)
    text = path.read_text("utf-8")
    way, at = "", json.loads(text.splitlines()[0] if file.endswith("l") else text)
    # A path is written with dots, so names that hold one are not reached.
    while isinstance(at, dict) and (names := sorted(n for n in at if "." not in n)):
        if way and not data.draw(st.booleans()):
            break
        name = data.draw(st.sampled_from(names))
        way, at = f"{way}.{name}", at[name]
    try:
        change(path, way.strip("."), value)
        assert main(["run", "--samples", "2"]) in (0, 2)
        assert len(re.findall("^error: ", capsys.readouterr().err, re.MULTILINE)) <= 1
    finally:
        path.write_text(text, "utf-8")


OPTIONS = ["run --samples -1", f"run --samples {'9' * 5000}", "run --image-root nowhere"]
OPTIONS += [f"run --image-root {'n' * 300}"]
OPTIONS += ["n" * 300, "run/run.json", "data", "run --out data/set.jsonl", f"run --out {'n' * 300}", "run --protocol x"]
OPTIONS += ["run --against nobody", "run --baseline data", "run --baseline run --against nobody"]


@pytest.mark.parametrize("line", OPTIONS, ids=lambda line: line[:40])
def test_options_are_refused(line: str, work: Path, refuse: Refuse) -> None:
    refuse(main, line.split())


def page_data() -> dict[str, Any]:
    page = Path("run/report.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index, no-any-return]


def test_names_are_shown_and_never_obeyed(work: Path) -> None:
    assert main(["run", "--samples", str(10**12)]) == 0
    page, report = (Path("run", name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert "<b>" not in page and "=[/x]&lt;b&gt;$x^$y 25 %" in page
    assert "<" not in report.replace("<br>", "")  # line breaks of our own in table cells
    assert r"| =\[/x\]&lt;b&gt;\$x^\$y 25 % |" in report
    cells = [cell for row in csv.reader(Path("run/results.csv").read_text("utf-8").splitlines()) for cell in row]
    assert f"'{LABEL}" in cells and not [cell for cell in cells if cell[:1] in ("=", "@", "+")]


def test_a_deleted_appearance_is_said(work: Path) -> None:
    Path("run", LOOKS).unlink()
    assert main(["run"]) == 0 and page_data()["appearance"] is None
    assert "appearance.json is absent" in Path("run/report.html").read_text("utf-8")


PICTURES: dict[str, Any] = {
    "CAM_FRONT": lambda path: path.write_bytes(png(8, 8, before=chunk(b"tEXt", b"a\0b")[:-4] + b"sum?")),
    "CAM_FRONT_LEFT": lambda path: path.write_text("picture"),
    "CAM_FRONT_RIGHT": Path.mkdir,
    "CAM_BACK": fifo,
    "CAM_BACK_LEFT": lambda path: Image.new("1", (1, 100_000)).save(path, "PNG"),
    "CAM_BACK_RIGHT": lambda path: Image.new("I;16", (8, 8)).save(path, "PNG"),
}


def first_images() -> dict[str, str]:
    return json.loads(Path("run/planning_set.jsonl").read_text("utf-8").splitlines()[0])["images"]  # type: ignore[no-any-return]


def shown() -> dict[str, Any]:
    """The front image of the first sample."""
    return next(view["picture"] for view in page_data()["samples"][0]["views"] if view["camera"] == "CAM_FRONT")


def test_an_unusable_picture_ends_no_report(work: Path) -> None:
    for camera, make in PICTURES.items():
        Path("data", first_images()[camera]).unlink()
        make(Path("data", first_images()[camera]))
    assert main(["run"]) == 0
    assert {v["camera"] for v in page_data()["samples"][0]["views"] if v["picture"]["problem"]} == set(PICTURES)


def test_a_picture_is_drawn_upright(work: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # rotated by 90 degrees
    Image.new("RGB", (60, 40), "red").save(Path("data", first_images()["CAM_FRONT"]), exif=exif)
    assert main(["run"]) == 0 and (shown()["width"], shown()["height"]) == (40, 60)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["absolute", "dots", "root", "link"])
def test_a_strangers_run_embeds_no_picture_of_ours(way: str, work: Path, tmp_path_factory: Any) -> None:
    """Neither by a name that leads out of the root, nor by a root or a link outside the current folder."""
    secret = tmp_path_factory.mktemp("secret") / "secret.png"
    Image.new("RGB", (20, 20), "red").save(secret)
    Path("link").symlink_to(secret.parent)
    names = {"absolute": str(secret), "dots": f"../../{secret.parent.name}/secret.png"}
    change(Path("run", RUN), "settings.data.image_root", {"root": str(secret.parent), "link": "link"}.get(way, "data"))
    change(Path("run/planning_set.jsonl"), "images.CAM_FRONT", names.get(way, "secret.png"))
    assert main(["run"]) == 0 and "problem" in shown()
    # The user may name the folder; a name still may not lead out of it.
    assert main(["run", "--image-root", str(secret.parent)]) == 0 and ("problem" in shown()) == (way in names)
