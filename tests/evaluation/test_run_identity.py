"""What makes a run the same run: settings, checkpoint, planning set, images and code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import senna_prune
from senna_prune.errors import ImageError, RunError
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.run import run_key
from senna_prune.evaluation.run.processes import Processes
from senna_prune.evaluation.run.records import Decision
from senna_prune.evaluation.run.run_key import code_version
from senna_prune.files import Journal, read_lines
from tests.evaluation.dummy import DummySystem
from tests.evaluation.dummy_runs import run, settings
from tests.evaluation.kill_and_resume import result_files


@pytest.mark.parametrize(
    ("overrides", "checkpoint", "message"),
    [
        (["pruning.accounting=published"], "dummy", r'pruning\.accounting was "entering", is "published"'),
        (["limit=3", "batch_size=2"], "dummy", "batch_size was 1, is 2"),
        (["readout.mode=one_pass"], "dummy", r'readout\.mode was "generate", is "one_pass"'),
        ([], "another", 'checkpoint was "dummy", is "another"'),
    ],
)
def test_another_run_is_refused_naming_the_difference(
    data: Path, tmp_path: Path, overrides: list[str], checkpoint: str, message: str
) -> None:
    run(data, tmp_path / "run")
    before = result_files(tmp_path / "run")
    with pytest.raises(RunError, match=message):
        run(data, tmp_path / "run", *overrides, checkpoint=checkpoint)
    assert result_files(tmp_path / "run") == before


def test_changed_planning_set_is_refused(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "run")
    lines = (data / "set.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (data / "set.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(RunError, match="planning_set was"):
        run(data, tmp_path / "run")


def test_moved_data_is_the_same_run(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "run")
    data.rename(tmp_path / "moved")
    assert not run(tmp_path / "moved", tmp_path / "run").loaded


def test_default_folder_depends_on_the_settings(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for tokens in (2, 3, 2):
        config = settings(data, tmp_path, f"readout.max_new_tokens={tokens}", "output=null", "name=mine")
        evaluate(config, DummySystem(config))
    assert len(list((tmp_path / "runs").glob("mine-*"))) == 2


def test_code_version_follows_the_sources() -> None:
    assert run_key.short_digest({"a": 1}) != run_key.short_digest({"a": 2})
    versions = {code_version([name]) for name in ("cost.py", "evaluation/score/metrics.py", "planner")}
    assert len(versions) == 3


def test_scoring_and_name_may_change_between_tries(data: Path, tmp_path: Path) -> None:
    """No decision depends on them: the advice to set another `on_error` must not throw the decisions away."""
    run(data, tmp_path / "run")
    before = (tmp_path / "run" / "decisions.jsonl").read_bytes()
    run(data, tmp_path / "run", "scoring.on_error=count_wrong", "scoring.resamples=60", "name=other")
    assert (tmp_path / "run" / "decisions.jsonl").read_bytes() == before
    assert json.loads((tmp_path / "run" / "results.json").read_text())["on_error"] == "count_wrong"


def test_dry_run_does_not_take_another_run_for_its_own(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "run")
    config = settings(data, tmp_path / "run", "readout.max_new_tokens=3")
    with pytest.raises(RunError, match="another run"):
        evaluate(config, DummySystem(config, 0.0, "dummy"), dry_run=True)


@pytest.mark.parametrize("file", ["evaluation/run/records.py", "task/labels.py", "image_files.py"])
def test_whatever_shapes_a_line_is_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """`records.rounded` cuts every number of a decision line; with other digits, old lines are not this code's."""
    package = Path(senna_prune.__file__).parent
    copy = shutil.copytree(package, tmp_path / "package", ignore=shutil.ignore_patterns("__pycache__"))
    before = code_version()
    monkeypatch.setattr(senna_prune, "__file__", str(copy / "__init__.py"))
    assert code_version() == before
    (copy / file).write_text((copy / file).read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert code_version() != before


PICTURE = "images/token0002_CAM_BACK.jpg"
CHANGED = rf"sample token0002/plan/0/corrected, .+{PICTURE}: the image has changed since this run decided on it"


def stop_after(monkeypatch: pytest.MonkeyPatch, lines: int) -> None:
    """Let the process die as soon as so many lines are in its journal."""
    append, count = Journal.append, 0

    def counted(self: Journal, record: object) -> None:
        nonlocal count
        append(self, record)
        count += 1
        if count == lines:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "append", counted)


@pytest.mark.parametrize("lines", [11, 12, 15, 37])
def test_a_picture_changed_before_resuming_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    """Whether its sample was begun (11 and 12 of 5 lines each) or was done: the decisions saw other images."""
    run(data, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, lines)
        with pytest.raises(KeyboardInterrupt):
            run(data, tmp_path / "run")
    (data / PICTURE).write_bytes(b"picture, retouched")
    with pytest.raises(RunError, match=CHANGED):
        run(data, tmp_path / "run")
    (data / PICTURE).write_bytes(b"picture")
    run(data, tmp_path / "run")
    assert result_files(tmp_path / "run") == result_files(tmp_path / "whole")


def test_a_picture_changed_before_its_sample_was_begun_is_no_matter(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 10)
        with pytest.raises(KeyboardInterrupt):
            run(data, tmp_path / "run")
    (data / PICTURE).write_bytes(b"picture, retouched")
    assert len(run(data, tmp_path / "run").decided) == 50


def test_a_picture_changed_after_the_run_is_refused(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "run")
    before = result_files(tmp_path / "run")
    seen = json.loads(before["pictures.json"])
    assert len(seen) == 72
    assert set(seen.values()) == {"2cea274d0bedc39e"}
    (data / PICTURE).write_bytes(b"picture, retouched")
    with pytest.raises(RunError, match=CHANGED):
        run(data, tmp_path / "run", "scoring.resamples=60")
    after = result_files(tmp_path / "run")
    assert after.pop("journal/lock") == b""
    assert after == before


def test_a_picture_changed_under_a_running_evaluation_is_refused(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path / "run")
    system = DummySystem(config)
    decide = system.decide_one

    def retouch(*arguments: Any) -> Decision:
        if len(system.decided) == 10:
            (data / "images" / "token0000_CAM_BACK.jpg").write_bytes(b"picture, retouched")
        return decide(*arguments)

    system.decide_one = retouch  # type: ignore[method-assign]
    samples = [json.loads(line) for line in (data / "set.jsonl").read_text().splitlines()]
    # The same images once more at the end of the set, under another token.
    again = {**samples[0], "token": "again"}
    (data / "set.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in [*samples, again]))
    with pytest.raises(RunError, match=r"sample again/.+token0000_CAM_BACK\.jpg: the image has changed"):
        evaluate(config, system)


def test_processes_that_saw_different_pictures_are_refused(data: Path, tmp_path: Path) -> None:
    """Two processes that read one file at the same time know nothing of each other; their merged journals tell."""
    samples = [json.loads(line) for line in (data / "set.jsonl").read_text().splitlines()]
    twins = [samples[0], {**samples[0], "token": "twin"}]
    (data / "set.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in twins))
    for folder, content in (("run", b"picture"), ("other", b"picture, retouched")):
        (data / "images" / "token0000_CAM_BACK.jpg").write_bytes(content)
        config = settings(data, tmp_path / folder)
        with pytest.raises(RunError, match="5 decisions are missing"):
            evaluate(config, DummySystem(config), processes=Processes(0, 2))
    shutil.copy(tmp_path / "other/journal/process-000.jsonl", tmp_path / "run/journal/process-001.jsonl")
    with pytest.raises(RunError, match=r"token0000_CAM_BACK\.jpg: the image changed while the run was under way"):
        run(data, tmp_path / "run")


def test_an_unusable_picture_may_be_replaced(data: Path, tmp_path: Path) -> None:
    """Only decided samples tie their images: an error is there to be repaired."""
    (data / PICTURE).write_bytes(b"junk")
    with pytest.raises(ImageError):
        run(data, tmp_path / "run")
    (data / PICTURE).write_bytes(b"picture")
    run(data, tmp_path / "run")
    assert len(list(read_lines(tmp_path / "run" / "decisions.jsonl"))) == 60
