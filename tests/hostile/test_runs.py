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
from tests.evaluation.checkpoint import arguments, rewrite, write_checkpoint, write_planning_set
from tests.hostile import fifo, refused
from tools import eval_planning, report

Change = Callable[[dict[str, Any]], object]
Capture, Patch = pytest.CaptureFixture[str], pytest.MonkeyPatch


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


def image(path: str) -> Change:
    return lambda s: s["images"].update(CAM_BACK=path)


SAMPLES: list[tuple[Change, str]] = [
    (lambda s: s.update(kind="PLAN"), "unknown kind 'PLAN'"),
    (lambda s: s.update(kind="plann"), "Did you mean 'plan'?"),
    (lambda s: s.pop("convention"), "field 'convention' is missing"),
    (lambda s: s["convention"].pop("command"), "is not a convention of cameras and command"),
    (image("/etc/passwd"), "/etc/passwd: the path leads out"),
    (image("../../x.png"), "../../x.png: the path leads out"),
    (image("a\0b.png"), "leads out of its root"),
    (image("n" * 300), "no such image (1 of 18"),
    (image("\ud800.png"), "not an image path by camera"),
    (lambda s: s.update(token="\ud800"), "token is '\\ud800', not a text"),
    (lambda s: s.update(question="\udfff" + s["question"]), "question is "),
    (lambda s: s.update(question=s["question"] + " a" * 5000), "sample t0/plan/0/corrected: the prompt has"),
    (lambda s: s.update(speed=10**400), "speed is a number of 13"),
]


@pytest.mark.parametrize("policy", ["fail", "count_wrong"])
@pytest.mark.parametrize(("change", "message"), SAMPLES, ids=[message for _, message in SAMPLES])
def test_planning_sets(
    capsys: Capture, monkeypatch: Patch, work: Path, policy: str, change: Change, message: str
) -> None:
    rewrite(work / "data" / "set.jsonl", change)
    shutil.rmtree(work / "run")
    given = arguments(work, f"scoring.on_error={policy}")
    if "no such image" in message and policy == "count_wrong":  # which is what this policy allows
        assert eval_planning.main(given) == 0
        return
    line = refused(capsys, monkeypatch, eval_planning.main, given, message)
    assert any(part in line for part in ("set.jsonl:1", "leads out", "no such image", "sample t0/"))


def test_lines_that_are_not_the_first(capsys: Capture, monkeypatch: Patch, work: Path) -> None:
    """A later sample is named; other kinds are counted, not dropped silently; a line nested without end is refused."""
    path = work / "data" / "set.jsonl"
    rewrite(path, lambda s: s.update(question=s["question"] + " a" * 5000), 2)
    shutil.rmtree(work / "run")
    message = "sample t2/plan/0/corrected: the prompt has"
    refused(capsys, monkeypatch, eval_planning.main, arguments(work), message, "Shorten the question")
    rewrite(path, lambda s: s.update(kind="vru"), 2)
    shutil.rmtree(work / "run")
    assert eval_planning.main(arguments(work)) == 0
    assert "left out: 1 sample of other kinds than plan (1 vru; see data.kinds)" in capsys.readouterr().out
    path.write_text("[" * 10_000 + "]" * 10_000 + "\n", encoding="utf-8")
    refused(capsys, monkeypatch, eval_planning.main, arguments(work), "set.jsonl:1: not JSON (nested too deeply)")


@pytest.mark.parametrize("policy", ["fail", "count_wrong"])
def test_an_image_nobody_writes_to(capsys: Capture, monkeypatch: Patch, work: Path, policy: str) -> None:
    """A FIFO in place of an image once blocked the run for ever."""
    shutil.rmtree(work / "run")
    (work / "data" / "1" / "CAM_BACK.png").unlink()
    fifo(work / "data" / "1" / "CAM_BACK.png")
    given = arguments(work, f"scoring.on_error={policy}")
    if policy == "fail":
        refused(capsys, monkeypatch, eval_planning.main, given, "no such image (1 of 18 images are missing)")
        return
    assert eval_planning.main(given) == 0
    records = [record for record, _ in RunFolder(work / "run").read_lines().values()]
    assert {record.sample for record in records if record.error} == {"t1/plan/0/corrected"}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SET = "data/set.jsonl"
FOLDERS: list[tuple[Callable[[Path], object], str]] = [
    (lambda w: (w / SET).write_text(""), "the planning set is empty"),
    (lambda w: (w / SET).write_text("{"), "set.jsonl:1: not JSON"),
    (lambda w: [rewrite(w / SET, lambda s: s.update(kind="vru"), n) for n in range(3)], "no question of kind"),
    (lambda w: (w / SET).write_text(2 * (w / SET).read_text()), "is in it twice"),
    (lambda w: rewrite(w / SET, lambda s: s.update(answer="maybe")), "the answer 'maybe' is no plan"),
    (lambda w: (w / "data/1/CAM_BACK.png").unlink(), "no such image (1 of 18 images are missing)"),
    (lambda w: (w / "data/1/CAM_BACK.png").write_bytes(b"junk"), "1/CAM_BACK.png"),
    (lambda w: cut(w / "data/1/CAM_BACK.png"), "1/CAM_BACK.png"),
    (lambda w: (w / "model/config.json").write_text("{}"), "config.json"),
    (lambda w: cut(w / "model/model.safetensors"), "model.safetensors"),
    (lambda w: [(w / "run").mkdir(), (w / "run/notes.txt").touch()], "the folder is not empty and holds no run"),
]


@pytest.mark.parametrize(("spoil", "message"), FOLDERS, ids=[message for _, message in FOLDERS])
def test_spoilt_folders(
    capsys: Capture, monkeypatch: Patch, work: Path, spoil: Callable[[Path], object], message: str
) -> None:
    shutil.rmtree(work / "run")
    spoil(work)
    refused(capsys, monkeypatch, eval_planning.main, arguments(work), message)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.json", "{", "run.json: not JSON"),
        ("run.json", "[]", "run.json: not a JSON object"),
        ("decisions.jsonl", '{"a":\n{}\n', "decisions.jsonl:1: "),
        ("decisions.jsonl", "{}\n", "decisions.jsonl:1: field sample is missing"),
        ("decisions.jsonl", "", "nothing is decided yet"),
        ("plots", "in the way", "cannot be written"),
    ],
)
def test_reports_of_damaged_runs(
    capsys: Capture, monkeypatch: Patch, work: Path, name: str, text: str, message: str
) -> None:
    (work / "run" / name).write_text(text)
    refused(capsys, monkeypatch, report.main, [work / "run"], message)
    (work / "run" / "run.json").unlink()
    refused(capsys, monkeypatch, report.main, [work / "run"], "no run here (run.json is absent)")


def in_place_of(name: str, put: Callable[[Path], object]) -> Callable[[Path], object]:
    def replace(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        (run / name).parent.mkdir(exist_ok=True)
        put(run / name)

    return replace


def holds(name: str, text: str) -> Callable[[Path], object]:
    return in_place_of(name, lambda path: path.write_text(text + "\n"))


def line(name: str, change: Change) -> Callable[[Path], object]:
    return lambda run: rewrite(run / name, change)


def info(change: Change) -> Callable[[Path], object]:
    def damage(run: Path) -> None:
        record = json.loads((run / "run.json").read_text())
        change(record)
        (run / "run.json").write_text(json.dumps(record))

    return damage


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    *(
        (in_place_of("run.json", lambda path, t=text: path.write_text(t)), "run.json: not ")
        for text in ["3", "null", "[", "{"]
    ),  # type: ignore[misc]
    (in_place_of("run.json", lambda path: path.write_bytes(b"\xff")), "run.json: not JSON"),
    (in_place_of("run.json", Path.touch), "run.json: not JSON"),
    (in_place_of("run.json", Path.mkdir), "run.json"),
    (in_place_of("run.json", fifo), "run.json"),
    (in_place_of("run.json", lambda path: None), "restore run.json from a copy, or delete"),
    (in_place_of("journal/lock", fifo), "journal: cannot be written"),
    (in_place_of("journal", Path.touch), "journal: cannot be written"),
    (info(lambda r: r["shape"].update(layers=-4)), "shape.layers: "),
    (info(lambda r: r.update(conditions=[])), "a run has at least one"),
    (info(lambda r: r.update(status="done")), "status: "),
    (info(lambda r: r.update(schema=2)), "schema: "),
    (info(lambda r: r["settings"].update(name="../x")), "cannot name a run"),
    (info(lambda r: r.update(settings={"data": None})), "'data' is a group of keys"),
    (info(lambda r: r["settings"].update(x=1)), "unknown key 'x'"),
    *(
        (in_place_of("decisions.jsonl", lambda path, t=text: path.write_text(t + "\n")), "decisions.jsonl:1: ")
        for text in ["3", "[]", "{}", "{"]
    ),  # type: ignore[misc]
    (line("decisions.jsonl", lambda r: r.update(condition="mine")), "the run has no condition 'mine'"),
    (line("decisions.jsonl", lambda r: r.update(answer=None)), "either an answer or an error"),
    (line("decisions.jsonl", lambda r: r["trace"]["after"].pop()), "differ in their numbers of layers"),
    (line("decisions.jsonl", lambda r: r.update(truth="\ud800")), "decisions.jsonl:1: "),
    (line("decisions.jsonl", lambda r: r.update(kind="PLAN")), "kind: "),
    (line("decisions.jsonl", lambda r: r.update(distribution=[float("nan")] * 20)), "decisions.jsonl:1: "),
    (line("timing.jsonl", lambda r: r.update(milliseconds=3)), "timing.jsonl:1: "),
    (line("timing.jsonl", lambda r: r["milliseconds"].update(prefill="1")), "timing.jsonl:1: "),
    (line("timing.jsonl", lambda r: r.update(peak_bytes="x")), "timing.jsonl:1: "),
    (
        in_place_of("journal/process-000.jsonl", lambda path: path.write_text('{"record": 3}\n')),
        "process-000.jsonl:1: ",
    ),
    *(
        (in_place_of("pictures.json", lambda path, t=text: path.write_text(t)), "pictures.json: ")
        for text in ("[]", "3", '{"a": 3}', "{")
    ),  # type: ignore[misc]
]


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damaged_runs(
    capsys: Capture, monkeypatch: Patch, work: Path, damage: Callable[[Path], object], message: str
) -> None:
    """One line says what is wrong; where it is one line of a file, deleting it helps."""
    path = work / "run" / "decisions.jsonl"
    before = path.read_bytes()
    damage(work / "run")
    said = refused(capsys, monkeypatch, eval_planning.main, arguments(work), message)
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
    entries = list(
        value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    )
    here = [(value, key) for key, inner in entries if key not in FREE and inner is not None]
    return here + [place for key, inner in entries if key not in FREE for place in places(inner)]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_values_of_another_type_are_refused(pristine: Path, data: st.DataObject) -> None:
    folder = pristine / "run"
    name = data.draw(st.sampled_from(["run.json", "decisions.jsonl", "timing.jsonl", "pictures.json"]))
    whole = (folder / name).read_text()
    first, rest = (whole, "") if name.endswith(".json") else whole.split("\n", 1)
    record = json.loads(first)
    container, key = data.draw(st.sampled_from(places(record)))
    old = container[key]
    if isinstance(container, dict) and data.draw(st.booleans()) and name != "timing.jsonl" and name != "pictures.json":
        container["colour"] = "red"
    else:
        container[key] = data.draw(st.sampled_from(FOREIGN[type(old)]))
    (folder / name).write_text(json.dumps(record) + "\n" + rest)
    try:
        with pytest.raises(SennaPruneError) as caught:
            RunFolder(folder).read()
        assert "\n" not in str(caught.value) and name in str(caught.value)
    finally:
        (folder / name).write_text(whole)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("{")], ids=["absent", "damaged"])
def test_a_lost_appearance_is_written_again(work: Path, spoil: Callable[[Path], object]) -> None:
    path = work / "run" / "appearance.json"
    before = path.read_bytes()
    spoil(path)
    assert eval_planning.main(arguments(work)) == 0
    assert path.read_bytes() == before


def test_markup_in_a_label_is_text(capsys: Capture, work: Path) -> None:
    shutil.rmtree(work / "run")
    given = arguments(work, 'pruning.methods=["[/x]"]', "pruning.options={'[/x]': {method: autoprune}}", "--dry-run")
    assert eval_planning.main(given) == 0
    assert "[/x]@0.25" in capsys.readouterr().out
