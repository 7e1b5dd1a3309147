"""Batched runs: the same bytes however they are cut off or shared out, and one bad image spoils nothing else."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.errors import ImageError, InputError, RunError
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.run.planning_set import planning_set
from senna_prune.evaluation.run.processes import Processes
from senna_prune.evaluation.run.reading import ImageReader
from senna_prune.evaluation.run.records import Decision
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.evaluation.run.run_key import run_key
from senna_prune.evaluation.run.runner import Runner
from senna_prune.evaluation.run.senna_system import SennaSystem
from senna_prune.evaluation.run.sweep import expand
from senna_prune.evaluation.run.system import Task
from senna_prune.evaluation.run.work import plan_of_work
from senna_prune.files import Journal, read_lines
from tests.conftest import ROOT
from tests.evaluation.dummy import DummySystem, cut_off, make_planning_set
from tests.evaluation.kill_and_resume import result_files

METHODS = ["pruning.methods=[autoprune,random,blind]", "pruning.seeds=[0,1]", "scoring.resamples=20"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eleven samples: three batches of three and one of two."""
    path = make_planning_set(tmp_path / "data", scenes=11, per_scene=1)
    return path.parent


def settings(data: Path, folder: Path, *overrides: str) -> EvaluationConfig:
    given = [f"data.planning_set={data}/set.jsonl", f"data.image_root={data}", f"output={folder}", *METHODS]
    return load_config(EvaluationConfig, overrides=[*given, "batch_size=3", *overrides])


def run(data: Path, folder: Path, *overrides: str, processes: Processes | None = None) -> DummySystem:
    config = settings(data, folder, *overrides)
    system = DummySystem(config)
    evaluate(config, system, processes=processes)
    return system


def decisions(folder: Path) -> list[dict[str, object]]:
    return [line for _, line in read_lines(folder / "decisions.jsonl")]


def spoil(data: Path, number: int, content: bytes = b"junk") -> None:
    (data / "images" / f"token{number:02d}00_CAM_FRONT.jpg").write_bytes(content)


@pytest.mark.parametrize("moment", range(1, 55, 4))
def test_a_run_cut_off_anywhere_ends_byte_identical(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    run(data, tmp_path / "whole")
    with cut_off(moment), pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "run")
    assert len(RunFolder(tmp_path / "run").read_lines()) == moment - 1
    system = run(data, tmp_path / "run")
    # Nothing but the batch that was cut off is decided twice.
    assert 55 - (moment - 1) <= len(system.decided) < 55 - (moment - 1) + 3
    assert result_files(tmp_path / "run") == result_files(tmp_path / "whole")


def test_two_shares_give_the_files_of_one(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "one")
    with pytest.raises(RunError, match="25 decisions are missing"):
        run(data, tmp_path / "two", processes=Processes(0, 2))
    # The second process of a launch finds the folder claimed; here it comes after the first.
    config = settings(data, tmp_path / "two")
    second, folder = DummySystem(config), RunFolder(tmp_path / "two")
    second.load()
    samples, conditions = planning_set(config.data).samples, expand(config.pruning)
    made_by = run_key(config, "dummy", conditions)["conditions"]
    share = Processes(1, 2).share(plan_of_work(samples, conditions, {}, config.kept_samples, config.batch_size))
    with folder.open_journal(1) as journal:
        Runner(second, journal, ImageReader(data, {}), made_by).run(share)
    assert len(second.decided) == 25
    assert not run(data, tmp_path / "two").loaded
    assert result_files(tmp_path / "two") == result_files(tmp_path / "one")


def test_another_batch_size_is_another_run(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "run")
    with pytest.raises(RunError, match="batch_size was 3, is 4"):
        run(data, tmp_path / "run", "batch_size=4")


def test_a_bad_picture_leaves_its_batch(data: Path, tmp_path: Path) -> None:
    spoil(data, 4)
    system = run(data, tmp_path / "run", "scoring.on_error=count_wrong")
    lines = decisions(tmp_path / "run")
    failed = [line for line in lines if line["error"]]
    assert {line["sample"] for line in failed} == {"token0400/plan/0/corrected"}
    assert len(failed) == 5
    assert len(system.decided) == 50
    # Tried again, it fails again, and its batch is not decided for nothing.
    folder = RunFolder(tmp_path / "run")
    folder.write_info(msgspec.structs.replace(folder.read_info(), status="partial"))
    before = result_files(tmp_path / "run")
    again = run(data, tmp_path / "run", "scoring.on_error=count_wrong")
    assert not again.decided
    assert len(again.prepared) == 3
    after = result_files(tmp_path / "run")
    assert after["decisions.jsonl"] == before["decisions.jsonl"]
    # Mended, it is decided in its batch, and only its own lines change.
    spoil(data, 4, b"picture")
    assert len(run(data, tmp_path / "run", "scoring.on_error=count_wrong").decided) == 15
    mended = decisions(tmp_path / "run")
    assert not any(line["error"] for line in mended)
    assert [a for a, b in zip(mended, lines, strict=True) if not b["error"]] == [b for b in lines if not b["error"]]


def test_a_bad_picture_stops_the_run_where_it_stands(data: Path, tmp_path: Path) -> None:
    spoil(data, 7)
    with pytest.raises(ImageError, match=r"token0700_CAM_FRONT\.jpg: not an image"):
        run(data, tmp_path / "run")
    # The two batches before it are there.
    assert len(RunFolder(tmp_path / "run").read_lines()) == 2 * 3 * 5


def test_other_errors_of_the_loader_surface_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = DummySystem.prepare

    def refuse(self: DummySystem, task: Task, images: Sequence[bytes]) -> Task:
        if task.sample.token == "token0400":
            raise InputError("the prompt is too long")
        return prepare(self, task, images)

    monkeypatch.setattr(DummySystem, "prepare", refuse)
    with pytest.raises(InputError, match="too long"):
        run(data, tmp_path / "run", "scoring.on_error=count_wrong")
    assert len(RunFolder(tmp_path / "run").read_lines()) == 3 * 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


class Clocked(DummySystem):
    """Takes the time that it says it takes, two samples at once."""

    def decide_one(self, *given: Any) -> Decision:
        stages = {"preprocess": 1e6, "vision": 20.0, "adapter": 10.0, "prefill": 2.0, "readout": 1.0}
        return replace(super().decide_one(*given), milliseconds=stages)


def test_time_is_counted_once(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = settings(data, tmp_path / "run")
    system = Clocked(config)
    system.load()
    chunks = plan_of_work(planning_set(config.data).samples, expand(config.pruning), {}, 0, config.batch_size)
    advanced: list[int] = []
    with Journal(tmp_path / "journal.jsonl") as journal:
        spent = Runner(system, journal, ImageReader(data, {}), {}, advance=advanced.append).run(chunks)
    assert advanced == [1] * 55
    # Vision and adapter once per sample, prefill and readout once per decision, images not at all.
    assert spent.model == pytest.approx(1e-3 * (11 * 30 + 55 * 3))
    assert 0 < spent.waiting < spent.total
    assert spent.overhead == pytest.approx(spent.total - spent.model - spent.waiting)
    spent.total, spent.model, spent.waiting = 40.0, 38.0, 1.0
    assert str(spent) == "evaluator overhead 2.5 % of 40.0 s, waiting for images 2.5 %"
    run(data, tmp_path / "run")
    assert "evaluator overhead " in capsys.readouterr().out


@pytest.mark.slow
def test_batches_of_the_demo_model_answer_as_single_frames_do(tmp_path: Path) -> None:
    """With methods that choose by place alone: a score may differ in its last bits, and with it what is kept."""
    base = [f"data.planning_set={ROOT}/data/demo/planning_set.jsonl", f"data.image_root={ROOT}/data/demo", "limit=5"]
    base += [f"model.path={ROOT}/data/demo/model", "pruning.methods=[none,random,uniform]", "model.device=cpu"]
    base += ["pruning.oracles=false"]
    for readout in ("generate", "one_pass"):
        lines = {}
        for size in (1, 4):
            folder = tmp_path / f"{readout}-{size}"
            given = [*base, f"readout.mode={readout}", f"batch_size={size}", f"output={folder}", "scoring.resamples=10"]
            config = load_config(EvaluationConfig, overrides=given)
            evaluate(config, SennaSystem(config))
            lines[size] = decisions(folder)
        assert len(lines[1]) == 5 * 3
        for single, batched in zip(lines[1], lines[4], strict=True):
            odds = [line.pop("distribution") for line in (single, batched)]
            assert odds[0] == (None if readout == "generate" else pytest.approx(odds[1], abs=1e-5))
            assert single == batched
