"""Survival in the lines of whole runs: the same alone and in batches, resumed and by two processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.errors import RunError
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.report.write import write_report
from senna_prune.evaluation.run.processes import Processes
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.evaluation.run.senna_system import SennaSystem
from senna_prune.files import read_json, read_lines
from senna_prune.task.objects import SeenObject
from senna_prune.task.sample import read_samples, write_samples
from tests.evaluation.checkpoint import arguments, rewrite, write_checkpoint, write_planning_set
from tests.evaluation.dummy import cut_off

SEEN = (
    SeenObject("pedestrian", {"CAM_FRONT": (60.0, 30.0, 80.0, 60.0)}, 8.0),
    SeenObject("car", {"CAM_BACK": (0.0, 0.0, 50.0, 40.0), "CAM_BACK_LEFT": (120.0, 0.0, 160.0, 50.0)}, 25.0),
)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("seen")
    write_checkpoint(work / "model", num_layers=4)
    path = write_planning_set(work / "data", count=5)
    *samples, empty = read_samples(path)
    write_samples(path, [*(replace(sample, objects=SEEN) for sample in samples), replace(empty, objects=())])
    return work


def config(work: Path, name: str, *more: str) -> EvaluationConfig:
    methods = ("pruning.methods=[random,pyramiddrop]", "pruning.seeds=[0,1]", "readout.mode=one_pass")
    return load_config(EvaluationConfig, overrides=[*arguments(work, *methods, *more), f"output={work}/{name}"])


def survival_of(folder: Path) -> dict[tuple[str, str], Any]:
    return {(line["sample"], line["condition"]): line["survival"] for _, line in read_lines(folder / "decisions.jsonl")}


@pytest.fixture(scope="module")
def alone(work: Path) -> dict[tuple[str, str], Any]:
    evaluate(settings := config(work, "alone"), SennaSystem(settings))
    return survival_of(work / "alone")


def test_every_line_tells_the_survival_of_its_objects(work: Path, alone: dict[tuple[str, str], Any]) -> None:
    conditions = {condition for _, condition in alone}
    assert {"oracle@0.25", "anti_oracle@0.25", "none", "random@0.25#1"} <= conditions
    assert len(alone) == 5 * len(conditions)
    assert sum(not found["objects"] for found in alone.values()) == len(conditions)
    for (_, condition), found in alone.items():
        assert found["layers"] == [1, 2, 3]
        assert found["tokens"][0] == 48
        if not found["objects"]:
            continue
        assert [counts[0] for counts in found["objects"]] == [own[0] for own in next(iter(alone.values()))["objects"]]
        if condition == "none":
            assert all(set(counts) == {counts[0]} for counts in (found["tokens"], *found["objects"]))
        if condition == "oracle@0.25":
            assert found["objects"][0][-1] == found["objects"][0][0] > 0
        if condition == "anti_oracle@0.25":
            assert found["objects"][0][1:] == [0, 0, 0]


def test_the_same_in_batches(work: Path, alone: dict[tuple[str, str], Any]) -> None:
    evaluate(settings := config(work, "batch", "batch_size=4"), SennaSystem(settings))
    assert survival_of(work / "batch") == alone


def test_the_same_after_an_interruption(work: Path, alone: dict[tuple[str, str], Any]) -> None:
    with pytest.raises(KeyboardInterrupt), cut_off(12):
        evaluate(settings := config(work, "resumed"), SennaSystem(settings))
    evaluate(settings := config(work, "resumed"), SennaSystem(settings))
    assert survival_of(work / "resumed") == alone


def test_the_report_tells_what_was_dropped(work: Path, alone: dict[tuple[str, str], Any]) -> None:
    write_report(work / "alone", image_root=work / "data")
    text, results = (work / "alone" / "report.md").read_text(), read_json(work / "alone" / "results.json")
    assert "8 objects of 4 samples in 4 scenes; half the depth is layer 2" in text
    assert "| anti\\_oracle@0.25 | 0.00 [0.00, 0.00] |" in text
    rows = {row["row"]: row for row in results["objects"]["rows"]}
    assert rows["anti_oracle@0.25"]["lost"]["pedestrians"]["value"] == 1
    assert rows["oracle@0.25"]["lost"]["pedestrians"]["value"] == 0
    assert {row["row"] for row in results["objects"]["rows"]} == {c.split("#")[0] for _, c in alone} - {"none"}
    assert (work / "alone" / "plots" / "objects.png").stat().st_size > 9999
    assert "plots/objects.png" in text
    assert "Objects of one frame" in (work / "alone" / "report.html").read_text()
    assert (work / "alone" / "objects.csv").read_text().count("\n") > 20
    write_report(work / "alone", out=work / "elsewhere")  # its images are not below the current folder
    assert "objects.png" not in (work / "elsewhere" / "report.md").read_text()


def test_a_damaged_count_is_refused(work: Path, alone: dict[tuple[str, str], Any]) -> None:
    evaluate(settings := config(work, "damaged", "limit=1"), SennaSystem(settings))
    rewrite(work / "damaged" / "decisions.jsonl", lambda line: line["survival"]["tokens"].append(1))
    with pytest.raises(RunError, match=r"survival.*as many tokens"):
        RunFolder(work / "damaged").read()


def test_the_same_by_two_processes(work: Path, alone: dict[tuple[str, str], Any]) -> None:
    settings = config(work, "two")
    with pytest.raises(RunError, match="missing"):  # the other process's share
        evaluate(settings, SennaSystem(settings), processes=Processes(0, 2))
    evaluate(settings, SennaSystem(settings), processes=Processes(1, 2))
    evaluate(settings, SennaSystem(settings))
    assert survival_of(work / "two") == alone
