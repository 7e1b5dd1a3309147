"""Hostile planning sets, pictures and run folders: what `tools/eval_planning.py` answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from senna_prune.evaluation.run.run_folder import RunFolder
from tests.evaluation.checkpoint import write_checkpoint, write_planning_set
from tests.hostile import fifo, refused
from tools import eval_planning

Change = Callable[[dict[str, Any]], object]


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
    shutil.copytree(pristine, tmp_path, dirs_exist_ok=True)
    return tmp_path


def arguments(work: Path, *more: str) -> list[str]:
    data = work / "data"
    paths = [f"data.planning_set={data}/set.jsonl", f"data.image_root={data}", f"model.path={work}/model"]
    return [*paths, "readout.max_new_tokens=2", "scoring.resamples=20", f"output={work}/run", *more]


def rewrite(path: Path, change: Change, number: int = 0) -> None:
    """Change one line of a JSON Lines file."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    change(lines[number])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


SAMPLES: dict[str, tuple[Change, str]] = {
    "another kind": (lambda s: s.update(kind="PLAN"), "unknown kind 'PLAN'"),
    "a kind misspelt": (lambda s: s.update(kind="plann"), "Did you mean 'plan'?"),
    "no convention": (lambda s: s.pop("convention"), "field 'convention' is missing"),
    "half a convention": (lambda s: s["convention"].pop("command"), "is not a convention of cameras and command"),
    "an absolute path": (lambda s: s["images"].update(CAM_BACK="/etc/passwd"), "/etc/passwd: the path leads out"),
    "a path upwards": (lambda s: s["images"].update(CAM_BACK="../../x.png"), "../../x.png: the path leads out"),
    "a NUL in a path": (lambda s: s["images"].update(CAM_BACK="a\0b.png"), "leads out of its root"),
    "a path of 300 bytes": (lambda s: s["images"].update(CAM_BACK="n" * 300), "no such image (1 of 18"),
    "a surrogate in a path": (lambda s: s["images"].update(CAM_BACK="\ud800.png"), "not an image path by camera"),
    "a surrogate in a token": (lambda s: s.update(token="\ud800"), "token is '\\ud800', not a text"),
    "a surrogate in a question": (lambda s: s.update(question="\udfff" + s["question"]), "question is "),
    "a question that is too long": (lambda s: s.update(question=s["question"] + " a" * 5000), "the limit is"),
    "a huge number": (lambda s: s.update(speed=10**400), "speed is 1000"),
}


@pytest.mark.parametrize("policy", ["fail", "count_wrong"])
@pytest.mark.parametrize(("change", "message"), SAMPLES.values(), ids=SAMPLES)
def test_planning_sets(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    work: Path,
    policy: str,
    change: Change,
    message: str,
) -> None:
    rewrite(work / "data" / "set.jsonl", change)
    shutil.rmtree(work / "run")
    given = arguments(work, f"scoring.on_error={policy}")
    if "no such image" in message and policy == "count_wrong":  # which is what this policy allows
        assert eval_planning.main(given) == 0
        return
    line = refused(capsys, monkeypatch, eval_planning.main, given, message)
    assert "set.jsonl:1" in line or "leads out" in line or "no such image" in line or "sample t0/" in line


def test_a_line_nested_without_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    (work / "data" / "set.jsonl").write_text("[" * 10_000 + "]" * 10_000 + "\n", encoding="utf-8")
    refused(capsys, monkeypatch, eval_planning.main, arguments(work), "set.jsonl:1: not JSON (nested too deeply)")


def test_the_later_sample_with_a_long_question_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    rewrite(work / "data" / "set.jsonl", lambda s: s.update(question=s["question"] + " a" * 5000), 2)
    shutil.rmtree(work / "run")
    message = "sample t2/plan/0/corrected: the prompt has"
    refused(capsys, monkeypatch, eval_planning.main, arguments(work), message, "Shorten the question")


def test_other_kinds_are_counted_not_dropped_silently(capsys: pytest.CaptureFixture[str], work: Path) -> None:
    rewrite(work / "data" / "set.jsonl", lambda s: s.update(kind="vru"))
    shutil.rmtree(work / "run")
    capsys.readouterr()
    assert eval_planning.main(arguments(work)) == 0
    assert "left out: 1 sample of other kinds than plan (1 vru; see data.kinds)" in capsys.readouterr().out


@pytest.mark.parametrize("policy", ["fail", "count_wrong"])
def test_a_picture_nobody_writes_to(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, work: Path, policy: str
) -> None:
    """A FIFO in place of a picture once blocked the run for ever."""
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


def _damaged_info(change: Change) -> Callable[[Path], object]:
    def damage(run: Path) -> None:
        record = json.loads((run / "run.json").read_text())
        change(record)
        (run / "run.json").write_text(json.dumps(record))

    return damage


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "run.json: a number": (lambda run: (run / "run.json").write_text("3"), "run.json: not a JSON object"),
    "run.json: null": (lambda run: (run / "run.json").write_text("null"), "run.json: not a JSON object"),
    "run.json: deep": (lambda run: (run / "run.json").write_text("[" * 10_000), "run.json: not JSON"),
    "run.json: no bytes": (lambda run: (run / "run.json").write_bytes(b""), "run.json: not JSON"),
    "run.json: a folder": (lambda run: [(run / "run.json").unlink(), (run / "run.json").mkdir()], "run.json"),
    "run.json: a FIFO": (lambda run: [(run / "run.json").unlink(), fifo(run / "run.json")], "run.json"),
    "run.json: absent": (lambda run: (run / "run.json").unlink(), "restore run.json from a copy, or delete"),
    "key: a list": (_damaged_info(lambda r: r.update(key=[])), "key is [], not an object"),
    "shape: null": (_damaged_info(lambda r: r.update(shape=None)), "shape is None, not an object"),
    "shape: a text": (_damaged_info(lambda r: r["shape"].update(layers="4")), "shape.layers is '4', not a whole"),
    "shape: negative": (_damaged_info(lambda r: r["shape"].update(layers=-4)), "values no run has"),
    "conditions: an object": (_damaged_info(lambda r: r.update(conditions={})), "conditions is {}, not a list"),
    "conditions: numbers": (_damaged_info(lambda r: r.update(conditions=[1])), "conditions[0] is 1, not an object"),
    "conditions: none": (_damaged_info(lambda r: r.update(conditions=[])), "values no run has"),
    "name: a list": (_damaged_info(lambda r: r.update(name=["x"])), "name is ['x'], not a text"),
    "name: a path": (_damaged_info(lambda r: r["settings"].update(name="../x")), "cannot name a run"),
    "settings: null": (_damaged_info(lambda r: r.update(settings={"data": None})), "data is None, not an object"),
    "settings: unknown": (_damaged_info(lambda r: r["settings"].update(x=1)), "'x' is no known field"),
    "status: another": (_damaged_info(lambda r: r.update(status="done")), "values no run has"),
    "schema: a list": (_damaged_info(lambda r: r.update(schema=[1])), "written by another version"),
    "a lock that is a FIFO": (
        lambda run: [(run / "journal").mkdir(), fifo(run / "journal" / "lock")],
        "journal: cannot be written",
    ),
    "a journal that is a file": (lambda run: (run / "journal").write_text(""), "journal: cannot be written"),
}


@pytest.mark.parametrize(("damage", "message"), FOLDERS.values(), ids=FOLDERS)
def test_run_folders(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    work: Path,
    damage: Callable[[Path], object],
    message: str,
) -> None:
    damage(work / "run")
    line = refused(capsys, monkeypatch, eval_planning.main, arguments(work), message)
    assert "un it again" not in line, "running it again would end with the same line"


LINES: dict[str, tuple[Any, str]] = {
    "an array": ([], "not a JSON object"),
    "a number": (3, "not a JSON object"),
    "nothing in it": ({}, "schema version None"),
    "one field": ({"schema": 1, "sample": "x"}, "condition is missing"),
    "sample": ({"sample": 3}, "sample is 3, not a text"),
    "condition": ({"condition": ["none"]}, "condition is ['none'], not a text"),
    "another condition": ({"condition": "mine"}, "the run has no condition 'mine'"),
    "answer": ({"answer": {}}, "answer is {}, not a text"),
    "no answer": ({"answer": None}, "either an answer or an error"),
    "error": ({"answer": None, "error": "bad"}, "error is 'bad', not an object"),
    "trace": ({"trace": 1}, "trace is 1, not an object"),
    "trace of texts": ({"trace": {"entering": "ab"}}, "trace.after is missing"),
    "layers differ": (
        {"trace": {"entering": [1], "after": [1, 2], "text": 1, "per_view": [[1]]}},
        "differ in their numbers of layers",
    ),
    "tokens": (
        {"trace": {"entering": [None], "after": [1], "text": 1, "per_view": [[1]]}},
        "trace.entering[0] is None",
    ),
    "probabilities": ({"distribution": [float("nan")] * 20}, "distribution[0] is nan, not a finite number"),
    "a flag for a count": ({"readout_positions": True}, "readout_positions is True, not a whole number"),
    "a surrogate": ({"truth": "\ud800"}, "which no file can hold"),
    "another field": ({"colour": "red"}, "'colour' is no known field"),
}


@pytest.mark.parametrize(("spoilt", "message"), LINES.values(), ids=LINES)
def test_decision_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, work: Path, spoilt: Any, message: str
) -> None:
    path = work / "run" / "decisions.jsonl"
    before = path.read_bytes()
    first, *rest = before.decode().splitlines()
    whole = not isinstance(spoilt, dict) or spoilt in ({}, LINES["one field"][0])
    line = spoilt if whole else {**json.loads(first), **spoilt}
    path.write_text("\n".join([json.dumps(line), *rest]) + "\n")
    refused(capsys, monkeypatch, eval_planning.main, arguments(work), "decisions.jsonl:1: ", message, "elete that line")
    # The advice helps.
    path.write_text("\n".join(rest) + "\n")
    assert eval_planning.main(arguments(work)) == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "timing", [3, [], {"milliseconds": 3}, {"milliseconds": {"prefill": "1"}}, {"peak_bytes": "x"}]
)
def test_timing_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, work: Path, timing: Any
) -> None:
    if isinstance(timing, dict):
        rewrite(work / "run" / "timing.jsonl", lambda line: line.update(timing))
        refused(capsys, monkeypatch, eval_planning.main, arguments(work), "timing.jsonl:1: ")
        return
    (work / "run" / "journal").mkdir()
    record = json.loads((work / "run" / "decisions.jsonl").read_text().splitlines()[0])
    (work / "run" / "journal" / "process-000.jsonl").write_text(json.dumps({"record": record, "timing": timing}) + "\n")
    refused(capsys, monkeypatch, eval_planning.main, arguments(work), "process-000.jsonl:1: ")


@pytest.mark.parametrize("pictures", ["[]", "3", '{"0/CAM_BACK.png": 3}', "{"])
def test_digests_of_pictures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, work: Path, pictures: str
) -> None:
    (work / "run" / "pictures.json").write_text(pictures)
    refused(capsys, monkeypatch, eval_planning.main, arguments(work), "pictures.json: ", "elete that file")


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("{")], ids=["absent", "damaged"])
def test_a_lost_appearance_is_written_again(work: Path, spoil: Callable[[Path], object]) -> None:
    path = work / "run" / "appearance.json"
    before = path.read_bytes()
    spoil(path)
    assert eval_planning.main(arguments(work)) == 0
    assert path.read_bytes() == before


def test_markup_in_a_label_is_text(capsys: pytest.CaptureFixture[str], work: Path) -> None:
    shutil.rmtree(work / "run")
    capsys.readouterr()
    given = arguments(work, 'pruning.methods=["[/x]"]', "pruning.options={'[/x]': {method: autoprune}}", "--dry-run")
    assert eval_planning.main(given) == 0
    assert "[/x]@0.25" in capsys.readouterr().out
