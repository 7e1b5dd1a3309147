"""Runs that ask several kinds of questions: decisions, scores by kind, the mean ratio, and the report."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.errors import ConfigError, RunError, SampleError
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.report.show import show_results
from senna_prune.evaluation.report.write import write_report
from senna_prune.evaluation.run.planning_set import planning_set
from senna_prune.evaluation.run.processes import Processes
from senna_prune.evaluation.run.records import Condition
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.evaluation.run.work import plan_of_work
from senna_prune.files import read_lines
from senna_prune.task.sample import read_samples, write_samples
from tests.evaluation.dummy import DummySystem
from tests.evaluation.dummy_runs import run, settings
from tests.evaluation.kill_and_resume import result_files
from tests.evaluation.scene_questions import make_scene_set

ALL = "data.kinds=[plan,vru,motion]"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scene_set(tmp_path_factory.mktemp("scenes")).parent


@pytest.fixture(scope="module")
def finished(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three kinds and its report."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(scenes, folder, ALL, "kept_samples=4")
    write_report(folder, samples=6)
    return folder


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_decisions_about_plans_are_the_same_bytes(scenes: Path, finished: Path, tmp_path: Path) -> None:
    """Of a set with other kinds in it, and also when those are asked too; a plan's line does not say its kind."""
    run(scenes, tmp_path / "plans")
    plans = (tmp_path / "plans" / "decisions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(plans) == 12 * 5
    assert not any('"kind"' in line for line in plans)
    every = (finished / "decisions.jsonl").read_text(encoding="utf-8").splitlines()
    recorded = [re.sub(r'"depths":(null|\[.*?\])', "", line) for line in every if '"kind"' not in line]
    assert recorded == [re.sub(r'"depths":(null|\[.*?\])', "", line) for line in plans]
    assert "kinds" not in results(tmp_path / "plans")


def test_every_question_is_decided_under_every_condition(finished: Path) -> None:
    kinds = [line.get("kind", "plan") for _, line in read_lines(finished / "decisions.jsonl")]
    assert {kind: kinds.count(kind) for kind in kinds} == {"vru": 60, "motion": 120, "plan": 60}


def test_what_is_left_out_is_said(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(scenes, tmp_path / "run", "data.kinds=[vru]", "limit=2")
    out = capsys.readouterr().out
    assert "left out: 36 samples of other kinds than vru (24 motion, 12 plan; see data.kinds)" in out
    assert "kinds: 2 vru" in out


def test_limit_counts_every_kind(scenes: Path) -> None:
    chosen = planning_set(settings(scenes, scenes / "absent", ALL).data, limit=2)
    assert [sample.kind for sample in chosen.samples] == ["vru", "motion", "motion", "plan", "vru", "plan"]


@pytest.mark.parametrize("answer", ["Perhaps.", ""])
def test_a_truth_that_is_no_answer_is_refused(scenes: Path, tmp_path: Path, answer: str) -> None:
    samples = [replace(s, answer=answer) if s.kind == "vru" else s for s in read_samples(scenes / "set.jsonl")]
    write_samples(tmp_path / "set.jsonl", samples)
    config = settings(tmp_path, tmp_path / "run", ALL, f"data.image_root={scenes}")
    with pytest.raises(SampleError, match="says neither yes nor no" if answer else "has an answer, the other none"):
        planning_set(config.data)


def test_unknown_kinds_and_kinds_that_the_set_lacks(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.kinds: unknown value 'vrus'. Did you mean 'vru'"):
        settings(scenes, tmp_path, "data.kinds=[vrus]")
    with pytest.raises(ConfigError, match=r"data\.kinds: the list is empty"):
        settings(scenes, tmp_path, "data.kinds=[]")
    with pytest.raises(SampleError, match="no question of kind traffic_light"):
        planning_set(settings(scenes, tmp_path, "data.kinds=[plan,traffic_light]").data)


def test_batches_hold_one_kind_each(scenes: Path) -> None:
    samples = planning_set(settings(scenes, scenes / "absent", ALL).data).samples
    chunks = plan_of_work(samples, (Condition("none", "none"),), {}, 0, batch_size=5)
    assert all(len({task.sample.kind for task in chunk}) == 1 for chunk in chunks)
    assert sorted(task.sample.key for chunk in chunks for task in chunk) == sorted(sample.key for sample in samples)


@pytest.mark.parametrize("batch", [1, 5])
def test_a_resumed_run_of_all_kinds_is_byte_identical(scenes: Path, tmp_path: Path, batch: int) -> None:
    run(scenes, tmp_path / "whole", ALL, f"batch_size={batch}")
    config = settings(scenes, tmp_path / "run", ALL, f"batch_size={batch}")
    system, calls = DummySystem(config), 0

    def stop(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return DummySystem.decide_one(system, *given)

    system.decide_one = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        evaluate(config, system)
    run(scenes, tmp_path / "run", ALL, f"batch_size={batch}")
    assert result_files(tmp_path / "run") == result_files(tmp_path / "whole")


def test_two_processes_give_the_same_files(scenes: Path, tmp_path: Path) -> None:
    """The first process takes its share and is refused, as the other has not come; then the other takes its own."""
    run(scenes, tmp_path / "one", ALL)
    config = settings(scenes, tmp_path / "two", ALL)
    with pytest.raises(RunError, match="120 decisions are missing"):
        evaluate(config, DummySystem(config), processes=Processes(0, 2))
    evaluate(config, DummySystem(config), processes=Processes(1, 2))
    assert len(run(scenes, tmp_path / "two", ALL).decided) == 60
    assert result_files(tmp_path / "two") == result_files(tmp_path / "one")


# Scores by hand -------------------------------------------------------------------------------------------------------

CONDITIONS = (Condition("none", "none"), Condition("m", "fastv", 0.5))
MOTION = "Object 1: KEEP, STRAIGHT\nObject 2: STOP, STRAIGHT\n"


# The whole ------------------------------------------------------------------------------------------------------------


def test_results_hold_all_kinds(finished: Path) -> None:
    (group,) = results(finished)["kinds"]
    rows = {row["row"]: row for row in group["rows"]}
    assert {"majority", "none", "autoprune@0.25", "random@0.25", "blind"} == set(rows)
    adaptive = rows["autoprune@0.25"]["kinds"]
    assert all(len(adaptive[kind]["cost"]["complexity"]) == 5 for kind in ("plan", "vru", "motion"))
    assert set(adaptive["motion"]["measures"]["cameras"]) == {"front", "back left"}
    plan = next(row for row in results(finished)["groups"][0]["rows"] if row["row"] == "autoprune@0.25")
    assert plan["accuracy"] == adaptive["plan"]["score"]
    assert plan["accuracy_interval"] == adaptive["plan"]["score_interval"]
    assert plan["ratio_interval"] == adaptive["plan"]["ratio_interval"]
    times = json.loads((finished / "timing.json").read_text(encoding="utf-8"))
    assert set(times["kinds"]) == {"vru", "motion"}
    assert times["rows"].keys() == times["kinds"]["vru"].keys()


def test_the_report_shows_kinds_circumstances_and_failures(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    for text in (
        "Scene understanding and planning",
        "12 plan of 4 scenes (score: speed and path both right)",
        "Mean ratio: the score of each kind",
        "motion by camera",
        "plan by time of day",
        "night (6 samples, 2 scenes)",
        "Complexity and kept tokens by kind",
        "plan: lost / gained",
    ):
        assert text in page, text
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert {"sample", "condition", "kind", "truth", "unpruned", "answer"} <= data["failures"][0].keys()
    assert {sample["kind"] for sample in data["samples"]} >= {"plan"}
    decided = RunFolder(finished).read_lines()
    for failure in data["failures"]:
        assert decided[failure["sample"], failure["condition"]][0].answer == failure["answer"]
        assert failure["answer"] != failure["unpruned"]
    assert (finished / "plots" / "kinds_by_complexity_corrected.png").stat().st_size > 5000
    assert "against retention" not in page, "there is one"
    report = (finished / "report.md").read_text(encoding="utf-8")
    assert "| method | plan % [95 %] | plan ratio % | vru % [95 %]" in report
    rows = list(csv.DictReader((finished / "kinds.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["kind"] for row in rows} == {"plan", "vru", "motion"}
    assert all(np.isfinite(float(row["score"])) for row in rows)
    assert "time of day" in (finished / "breakdowns.csv").read_text(encoding="utf-8")


def test_the_terminal_shows_kinds_in_the_order_of_the_report(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_results(RunFolder(finished), Console(width=140))
    assert re.search(r"method +plan % +plan ratio % +vru % +vru ratio % +motion % ", capsys.readouterr().out)


def test_a_run_without_plans_is_reported(scenes: Path, tmp_path: Path) -> None:
    config = settings(scenes, tmp_path / "run", "data.kinds=[motion]")
    evaluate(config, DummySystem(config))
    assert results(tmp_path / "run")["groups"] == []
    page = write_report(tmp_path / "run", samples=0).read_text(encoding="utf-8")
    assert "24 motion of 4 scenes" in page


def test_a_set_without_answers_is_evaluated_and_reported(scenes: Path, tmp_path: Path) -> None:
    samples = [replace(sample, answer="") for sample in read_samples(scenes / "set.jsonl")]
    write_samples(tmp_path / "set.jsonl", samples)
    config = settings(tmp_path, tmp_path / "run", ALL, f"data.image_root={scenes}", "pruning.retentions=[0.2,0.4]")
    evaluate(config, DummySystem(config))
    group, *_ = results(tmp_path / "run")["groups"]
    assert not group["labelled"] and all(row["accuracy"] is None for row in group["rows"])
    page = write_report(tmp_path / "run", samples=2).read_text(encoding="utf-8")
    assert "Agreement with unpruned against retention" in page and "accuracy %" not in page
    assert (tmp_path / "run" / "plots" / "kinds_by_retention_corrected.png").stat().st_size > 5000
    write_samples(tmp_path / "set.jsonl", [samples[0], *read_samples(scenes / "set.jsonl")[1:]])
    with pytest.raises(SampleError, match="has an answer, the other none"):
        planning_set(config.data)


def test_a_partial_run_is_reported_as_far_as_it_goes(finished: Path, tmp_path: Path) -> None:
    for name in ("planning_set.jsonl", "run.json", "decisions.jsonl"):
        text = (finished / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace('"complete"', '"partial"'), encoding="utf-8")
    lines = (tmp_path / "decisions.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "decisions.jsonl").write_text("".join(lines[:20]), encoding="utf-8")
    assert "Partial run" in write_report(tmp_path, samples=0).read_text(encoding="utf-8")
    (tmp_path / "decisions.jsonl").write_text("".join(lines[:3]), encoding="utf-8")
    with pytest.raises(RunError, match="no sample is decided under every condition"):
        write_report(tmp_path, samples=0)


def test_a_damaged_kind_is_refused_by_line(finished: Path, tmp_path: Path) -> None:
    for name in ("planning_set.jsonl", "run.json", "decisions.jsonl"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    text = (tmp_path / "decisions.jsonl").read_text(encoding="utf-8")
    (tmp_path / "decisions.jsonl").write_text(text.replace('"kind":"vru"', '"kind":"vrv"', 1), encoding="utf-8")
    with pytest.raises(RunError, match=r"decisions.jsonl:1: .*'vrv'"):
        write_report(tmp_path)


def test_free_text_without_sacrebleu_is_refused_before_anything_runs(tmp_path: Path) -> None:
    try:
        import sacrebleu  # noqa: F401
    except ImportError:
        config = load_config(EvaluationConfig, overrides=["data.kinds=[description]", f"output={tmp_path}/run"])
        with pytest.raises(ConfigError, match="sacrebleu"):
            evaluate(config, DummySystem(config))
        assert not (tmp_path / "run").exists()
    else:
        pytest.skip("sacrebleu is installed")
