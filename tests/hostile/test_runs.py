"""Hostile planning sets, images and run folders: what `tools/eval_planning.py` answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from senna_prune.errors import SennaPruneError
from senna_prune.evaluation.run.run_folder import RunFolder
from tests.evaluation.checkpoint import arguments, write_checkpoint, write_planning_set
from tests.hostile import change, fifo
from tests.hostile.conftest import Refuse
from tools import eval_planning, report

Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a planning set of three samples, and a finished run of them."""
    work = tmp_path_factory.mktemp("pristine")
    write_checkpoint(work / "model")
    write_planning_set(work / "data", count=3)
    assert eval_planning.main(arguments(work)) == 0
    return work


@pytest.fixture
def work(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def fresh(work: Path) -> Path:
    """Not run yet."""
    shutil.rmtree(work / "run")
    return work


LONG = "sample t0/plan/0/corrected: the prompt has"
SAMPLES: list[tuple[str, Any, str]] = [
    ("kind", "PLAN", "unknown kind 'PLAN'"),
    ("kind", "plann", "Did you mean 'plan'?"),
    ("convention", ..., "field 'convention' is missing"),
    ("convention.command", ..., "is not a convention of cameras and command"),
    ("images.CAM_BACK", "/etc/passwd", "/etc/passwd: the path leads out"),
    ("images.CAM_BACK", "../../x.png", "../../x.png: the path leads out"),
    ("images.CAM_BACK", "a\0b.png", "leads out of its root"),
    ("images.CAM_BACK", "n" * 300, "no such image (1 of 18"),
    ("images.CAM_BACK", "\ud800.png", "not an image path by camera"),
    ("token", "\ud800", "token is '\\ud800', not a text"),
    ("question", lambda text: "\udfff" + text, "question is "),
    ("question", lambda text: text + " a" * 5000, LONG),
    ("speed", 10**400, "speed is a number of 13"),
]


@pytest.mark.parametrize("policy", ["fail", "count_wrong"])
@pytest.mark.parametrize(("way", "value", "message"), SAMPLES, ids=[message for *_, message in SAMPLES])
def test_planning_sets(fresh: Path, refuse: Refuse, policy: str, way: str, value: Any, message: str) -> None:
    change(fresh / "data/set.jsonl", way, value)
    given = arguments(fresh, f"scoring.on_error={policy}")
    if "no such image" in message and policy == "count_wrong":  # which is what this policy allows
        assert eval_planning.main(given) == 0
        return
    line = refuse(eval_planning.main, given, message)
    assert any(part in line for part in ("set.jsonl:1", "leads out", "no such image", "sample t0/"))


def test_lines_that_are_not_the_first(capsys: pytest.CaptureFixture[str], fresh: Path, refuse: Refuse) -> None:
    """A later sample is named; other kinds are counted, not dropped silently; a line nested without end is refused."""
    path = fresh / "data/set.jsonl"
    change(path, "question", lambda text: text + " a" * 5000, 2)
    refuse(eval_planning.main, arguments(fresh), LONG.replace("t0", "t2"), "Shorten the question")
    change(path, "kind", "vru", 2)
    shutil.rmtree(fresh / "run")
    assert eval_planning.main(arguments(fresh)) == 0
    assert "left out: 1 sample of other kinds than plan (1 vru; see data.kinds)" in capsys.readouterr().out
    path.write_text("[" * 10_000 + "]" * 10_000 + "\n", encoding="utf-8")
    refuse(eval_planning.main, arguments(fresh), "set.jsonl:1: not JSON (nested too deeply)")


def test_an_image_nobody_writes_to(fresh: Path, refuse: Refuse) -> None:
    """A FIFO in place of an image once blocked the run for ever."""
    (fresh / "data/1/CAM_BACK.png").unlink()
    fifo(fresh / "data/1/CAM_BACK.png")
    refuse(eval_planning.main, arguments(fresh), "no such image (1 of 18 images are missing)")
    assert eval_planning.main(arguments(fresh, "scoring.on_error=count_wrong")) == 0
    records = [record for record, _ in RunFolder(fresh / "run").read_lines().values()]
    assert {record.sample for record in records if record.error} == {"t1/plan/0/corrected"}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def holds(name: str, text: str | bytes) -> Spoil:
    """The file of that name holds that alone."""
    content = text if isinstance(text, bytes) else text.encode()
    return in_place_of(name, lambda path: path.write_bytes(content))


def in_place_of(name: str, put: Spoil) -> Spoil:
    def replace(work: Path) -> None:
        (work / name).unlink(missing_ok=True)
        (work / name).parent.mkdir(exist_ok=True)
        put(work / name)

    return replace


def set_to(name: str, way: str, *value: Any) -> Spoil:
    return lambda work: change(work / name, way, *value)


SET, BACK = "data/set.jsonl", "data/1/CAM_BACK.png"
FOLDERS: list[tuple[Spoil, str]] = [
    (holds(SET, ""), "the planning set is empty"),
    (holds(SET, "{"), "set.jsonl:1: not JSON"),
    (lambda w: [change(w / SET, "kind", "vru", n) for n in range(3)], "no question of kind"),
    (lambda w: (w / SET).write_text(2 * (w / SET).read_text()), "is in it twice"),
    (set_to(SET, "answer", "maybe"), "the answer 'maybe' is no plan"),
    (lambda w: (w / BACK).unlink(), "no such image (1 of 18 images are missing)"),
    (holds(BACK, b"junk"), "1/CAM_BACK.png"),
    (lambda w: cut(w / BACK), "1/CAM_BACK.png"),
    (holds("model/config.json", "{}"), "config.json"),
    (lambda w: cut(w / "model/model.safetensors"), "model.safetensors"),
    (in_place_of("run/notes.txt", Path.touch), "the folder is not empty and holds no run"),
]


@pytest.mark.parametrize(("spoil", "message"), FOLDERS, ids=[message for _, message in FOLDERS])
def test_spoilt_folders(fresh: Path, refuse: Refuse, spoil: Spoil, message: str) -> None:
    spoil(fresh)
    refuse(eval_planning.main, arguments(fresh), message)


REPORTED = [
    ("run.json", "{", "run.json: not JSON"),
    ("run.json", "[]", "run.json: not a JSON object"),
    ("decisions.jsonl", '{"a":\n{}\n', "decisions.jsonl:1: "),
    ("decisions.jsonl", "{}\n", "decisions.jsonl:1: field sample is missing"),
    ("decisions.jsonl", "", "nothing is decided yet"),
    ("plots", "in the way", "cannot be written"),
]


@pytest.mark.parametrize(("name", "text", "message"), REPORTED)
def test_reports_of_damaged_runs(work: Path, refuse: Refuse, name: str, text: str, message: str) -> None:
    (work / "run" / name).write_text(text)
    refuse(report.main, [work / "run"], message)
    (work / "run" / "run.json").unlink()
    refuse(report.main, [work / "run"], "no run here (run.json is absent)")


RUN, LINES, TIMES, IMAGES = (f"run/{name}" for name in ("run.json", "decisions.jsonl", "timing.jsonl", "pictures.json"))
DAMAGE: list[tuple[Spoil, str]] = [
    *((holds(RUN, text), "run.json: not ") for text in ("3", "null", "[", "{")),
    *((holds(RUN, text), "run.json: not JSON") for text in (b"\xff", b"")),
    *((in_place_of(RUN, make), "run.json") for make in (Path.mkdir, fifo)),
    (in_place_of(RUN, lambda path: None), "restore run.json from a copy, or delete"),
    (in_place_of("run/journal/lock", fifo), "journal: cannot be written"),
    (in_place_of("run/journal", Path.touch), "journal: cannot be written"),
    (set_to(RUN, "shape.layers", -4), "shape.layers: "),
    (set_to(RUN, "conditions", []), "a run has at least one"),
    (set_to(RUN, "status", "done"), "status: "),
    (set_to(RUN, "schema", 2), "schema: "),
    (set_to(RUN, "settings.name", "../x"), "cannot name a run"),
    (set_to(RUN, "settings", {"data": None}), "'data' is a group of keys"),
    (set_to(RUN, "settings", lambda old: old | {"x": 1}), "unknown key 'x'"),
    *((holds(LINES, text + "\n"), "decisions.jsonl:1: ") for text in ("3", "[]", "{}", "{")),
    (set_to(LINES, "condition", "mine"), "the run has no condition 'mine'"),
    (set_to(LINES, "answer", None), "either an answer or an error"),
    (set_to(LINES, "trace.after.0"), "differ in their numbers of layers"),
    (set_to(LINES, "truth", "\ud800"), "decisions.jsonl:1: "),
    (set_to(LINES, "kind", "PLAN"), "kind: "),
    (set_to(LINES, "distribution", [float("nan")] * 20), "decisions.jsonl:1: "),
    (set_to(TIMES, "milliseconds", 3), "timing.jsonl:1: "),
    (set_to(TIMES, "milliseconds.prefill", "1"), "timing.jsonl:1: "),
    (set_to(TIMES, "peak_bytes", "x"), "timing.jsonl:1: "),
    (holds("run/journal/process-000.jsonl", '{"record": 3}\n'), "process-000.jsonl:1: "),
    *((holds(IMAGES, text), "pictures.json: ") for text in ("[]", "3", '{"a": 3}', "{")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damaged_runs(work: Path, refuse: Refuse, damage: Spoil, message: str) -> None:
    """One line says what is wrong; where it is one line of a file, deleting it helps."""
    path = work / LINES
    before = path.read_bytes()
    damage(work)
    said = refuse(eval_planning.main, arguments(work), message)
    assert ("elete that line" in said) == (".jsonl:" in said)
    assert ".jsonl:" in said or "un it again" not in said, "running it again would end with the same line"
    if "decisions.jsonl:1" in said:
        path.write_bytes(path.read_bytes().partition(b"\n")[2])
        assert eval_planning.main(arguments(work)) == 0
        assert path.read_bytes() == before


FOREIGN: dict[type, list[Any]] = {
    str: [3, True, [], {}],
    int: ["4", 1.5, True, None, [], {}, 10**30],
    float: ["4", True, [], {}, 10**400],
    list: ["ab", 3, {}, [{}], [None]],
    dict: ["x", 3, []],
}
"""Values that no field of a type can hold; of a text that may be absent, None can be held."""
FREE = ("key", "settings", "options", "resolved", "positions")
"""Parts of `run.json` that hold anything."""


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a decoded JSON document whose value has a type, but the free ones."""
    inner = [*value.items()] if isinstance(value, dict) else [*enumerate(value[:2])] if isinstance(value, list) else []
    entries = [(key, part) for key, part in inner if key not in FREE]
    return [(value, key) for key, part in entries if part is not None] + [
        p for _, part in entries for p in places(part)
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_values_of_another_type_are_refused(pristine: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([RUN, LINES, TIMES, IMAGES]))
    path = pristine / name
    whole = path.read_text()
    first, rest = whole.split("\n", 1) if path.suffix == ".jsonl" else (whole, "")
    record = json.loads(first)
    container, key = data.draw(st.sampled_from(places(record)))
    if isinstance(container, dict) and data.draw(st.booleans()) and name not in (TIMES, IMAGES):
        container["colour"] = "red"
    else:
        container[key] = data.draw(st.sampled_from(FOREIGN[type(container[key])]))
    path.write_text(json.dumps(record) + "\n" + rest)
    try:
        with pytest.raises(SennaPruneError) as caught:
            RunFolder(pristine / "run").read()
        assert "\n" not in str(caught.value) and path.name in str(caught.value)
    finally:
        path.write_text(whole)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("{")], ids=["absent", "damaged"])
def test_a_lost_appearance_is_written_again(work: Path, spoil: Spoil) -> None:
    path = work / "run" / "appearance.json"
    before = path.read_bytes()
    spoil(path)
    assert eval_planning.main(arguments(work)) == 0
    assert path.read_bytes() == before


def test_markup_in_a_label_is_text(capsys: pytest.CaptureFixture[str], fresh: Path) -> None:
    given = arguments(fresh, 'pruning.methods=["[/x]"]', "pruning.options={'[/x]': {method: autoprune}}", "--dry-run")
    assert eval_planning.main(given) == 0
    assert "[/x]@0.25" in capsys.readouterr().out
