"""Runs that survive: kills, torn lines, other numbers of processes, full disks, changed settings."""

from __future__ import annotations

import errno
import gc
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from senna_prune.cli import guarded
from senna_prune.errors import FileError, ImageError, RunError
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.run.processes import Processes
from senna_prune.evaluation.run.records import Decision
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.files import read_lines
from tests.conftest import ROOT
from tests.evaluation.dummy import DummySystem
from tests.evaluation.dummy_runs import METHODS, run, settings
from tests.evaluation.kill_and_resume import kill_and_resume, result_files


class Forked:
    """A run in a forked child: starts at once, as everything is imported already."""

    def __init__(self, data: Path, folder: Path) -> None:
        self._process = multiprocessing.get_context("fork").Process(target=self._run, args=(data, folder))
        self._process.start()

    @staticmethod
    def _run(data: Path, folder: Path) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        gc.freeze()
        sys.exit(guarded(lambda: run(data, folder, delay=0.0005)))

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def wait(self, seconds: float | None) -> int | None:
        self._process.join(seconds)
        return self._process.exitcode


@pytest.mark.slow
def test_twenty_killed_runs_end_byte_identical(data: Path, tmp_path: Path) -> None:
    identical, hits, refused = kill_and_resume(
        lambda folder: Forked(data, folder),
        20,
        tmp_path / "runs",
        kills=1,
        picture=data / "images" / "token0000_CAM_BACK.jpg",
    )
    print(f"{identical}/20 identical after {hits} kills, a changed image refused {refused} times")
    assert identical == 20
    assert hits == 20
    assert refused > 0


def test_continues_instead_of_starting_over(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "whole")
    folder = tmp_path / "run"
    calls = 0

    def stop_in_the_middle(self: DummySystem, *arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return original(self, *arguments)

    original = DummySystem.decide_one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DummySystem, "decide_one", stop_in_the_middle)
        with pytest.raises(KeyboardInterrupt):
            run(data, folder)
    assert RunFolder(folder).read_info().status == "partial"
    assert not (folder / "results.json").exists()
    system = run(data, folder)
    # 12 samples x 5 conditions, of which 19 decisions (and 3 whole samples) were there.
    assert len(system.decided) == 60 - 19
    assert len(system.encoded) == 12 - 3
    assert result_files(folder) == result_files(tmp_path / "whole")
    assert RunFolder(folder).read_info().status == "complete"


def test_finished_run_is_only_shown(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(data, tmp_path / "run")
    before = result_files(tmp_path / "run")
    times = (tmp_path / "run" / "timing.jsonl").read_bytes()
    capsys.readouterr()
    system = run(data, tmp_path / "run")
    assert not system.loaded
    assert result_files(tmp_path / "run") == before
    assert (tmp_path / "run" / "timing.jsonl").read_bytes() == times
    assert "majority" in capsys.readouterr().out


def test_what_conditions_share_is_computed_once(data: Path, tmp_path: Path) -> None:
    system = run(data, tmp_path / "run")
    assert len(system.encoded) == len(set(system.encoded)) == 12
    assert len(system.decided) == 60


def test_foreign_folder_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious", encoding="utf-8")
    with pytest.raises(RunError, match="not empty and holds no run"):
        run(data, tmp_path / "run")


def test_two_at_once_are_refused(data: Path, tmp_path: Path) -> None:
    config = settings(data, tmp_path / "run")
    system = DummySystem(config)
    original = system.decide_one

    def start_another(*given: Any) -> Decision:
        if len(system.decided) % 20 == 0:
            with pytest.raises(RunError, match="another process is at work"):
                run(data, tmp_path / "run")
        return original(*given)

    system.decide_one = start_another  # type: ignore[method-assign]
    evaluate(config, system)
    assert len(system.decided) == 60


def test_full_disk_is_one_line_and_loses_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(data, tmp_path / "whole")
    count = 0
    synchronise = os.fsync

    def full_after_fifteen(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count > 25:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synchronise(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_after_fifteen)
        with pytest.raises(FileError, match=r"process-000\.jsonl: cannot be written \(No space left on device\)"):
            run(data, tmp_path / "run")
    system = run(data, tmp_path / "run")
    assert 0 < len(system.decided) < 60
    assert result_files(tmp_path / "run") == result_files(tmp_path / "whole")


def test_unwritable_output(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(FileError, match=r"cannot be written \(Not a directory\)"):
        run(data, tmp_path / "file" / "run")


def test_missing_images_stop_the_run_before_anything_heavy(data: Path, tmp_path: Path) -> None:
    missing = sorted((data / "images").glob("token01*_CAM_BACK.jpg"))
    for path in missing:
        path.unlink()
    config = settings(data, tmp_path / "run")
    system = DummySystem(config)
    with pytest.raises(ImageError, match=rf"{missing[0]}: no such image \(3 of 72 images are missing\)"):
        evaluate(config, system)
    assert not system.loaded
    assert not (tmp_path / "run").exists()


def test_corrupt_image_stops_the_run_by_default(data: Path, tmp_path: Path) -> None:
    (data / "images" / "token0002_CAM_FRONT.jpg").write_bytes(b"junk")
    with pytest.raises(ImageError, match=r"token0002_CAM_FRONT\.jpg: not an image"):
        run(data, tmp_path / "run")
    assert RunFolder(tmp_path / "run").read_info().status == "partial"


def test_a_repaired_picture_changes_what_others_borrow(data: Path, tmp_path: Path) -> None:
    """Its sample joins the mean, and another sample takes its complexity: both are decided anew."""
    borrowing = ["pruning.methods=[autoprune,shuffled,static]", "scoring.on_error=count_wrong"]
    borrowing += [f"pruning.options.{name}={{method: autoprune, indicator: {name}}}" for name in ("shuffled", "static")]
    run(data, tmp_path / "whole", *borrowing)
    (data / "images" / "token0002_CAM_FRONT.jpg").write_bytes(b"junk")
    run(data, tmp_path / "run", *borrowing)
    (data / "images" / "token0002_CAM_FRONT.jpg").write_bytes(b"picture")
    system = run(data, tmp_path / "run", *borrowing)
    # Six decisions of the sample itself, one shuffled and eleven static ones of others.
    assert len(system.decided) == 6 + 1 + 11
    assert result_files(tmp_path / "run") == result_files(tmp_path / "whole")


@pytest.mark.parametrize("policy", ["count_wrong", "skip_reported"])
def test_error_rows_follow_the_policy_and_are_tried_again(data: Path, tmp_path: Path, policy: str) -> None:
    run(data, tmp_path / "whole", f"scoring.on_error={policy}")
    (data / "images" / "token0002_CAM_FRONT.jpg").write_bytes(b"junk")
    (data / "images" / "token0101_CAM_FRONT.jpg").unlink()
    run(data, tmp_path / "run", f"scoring.on_error={policy}")
    group = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))["groups"][0]
    assert group["failed"] == 2
    assert group["first_failure"] == {"message": "images/token0002_CAM_FRONT.jpg: not an image", "type": "ImageError"}
    assert group["samples"] == (12 if policy == "count_wrong" else 10)
    assert {row["count"] for row in group["rows"]} >= {group["samples"]}
    errors = [r for _, r in read_lines(tmp_path / "run" / "decisions.jsonl") if r["error"]]
    assert len(errors) == 2 * 5
    for name in ("token0002_CAM_FRONT.jpg", "token0101_CAM_FRONT.jpg"):
        (data / "images" / name).write_bytes(b"picture")
    system = run(data, tmp_path / "run", f"scoring.on_error={policy}")
    assert len(system.encoded) == 2
    assert result_files(tmp_path / "run") == result_files(tmp_path / "whole")


def test_number_of_processes_may_change_between_tries(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "whole")
    config = settings(data, tmp_path / "run")
    with pytest.raises(RunError, match="30 decisions are missing"):
        evaluate(config, DummySystem(config), processes=Processes(0, 2))
    system = run(data, tmp_path / "run")
    assert len(system.decided) == 30
    assert result_files(tmp_path / "run") == result_files(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_give_the_files_of_one(data: Path, tmp_path: Path) -> None:
    # `shuffled` takes what the other process measured: it must wait for it.
    borrowing = ["pruning.methods=[shuffled,autoprune,random]"]
    borrowing += ["pruning.options.shuffled={method: autoprune, indicator: shuffled}"]
    run(data, tmp_path / "one", *borrowing)
    # `--multi_gpu` is accelerate's name for several processes; without CUDA they run on the CPU.
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
    command = [sys.executable, *launch.split(), "--dynamo_backend", "no", "-m", "tests.evaluation.run_dummy"]
    given = [
        f"data.planning_set={data}/set.jsonl",
        f"data.image_root={data}",
        f"output={tmp_path / 'two'}",
        *METHODS,
        *borrowing,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *given],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "in 2 process(es)" in done.stdout
    results = [result_files(tmp_path / name) for name in ("one", "two")]
    infos = [json.loads(files.pop("run.json")) for files in results]
    assert results[0] == results[1]
    for info in infos:
        assert info["key"].pop("code")
    assert infos[0] == infos[1]
