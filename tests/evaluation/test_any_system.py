"""What `system=package:Class` names is evaluated, reported and refused like the model."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from senna_prune.task.sample import read_samples
from tests.conftest import ROOT
from tests.hostile import refused
from tools import eval_planning, report

PLANNER = "system=examples.past_answers:PastAnswers"


@pytest.fixture
def arguments(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A table in which the planner is right 10 of 12 times, and its cautious self 4 times."""
    monkeypatch.chdir(ROOT)
    with (tmp_path / "answers.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["token", "condition", "answer"])
        for number, sample in enumerate(read_samples(data / "set.jsonl")):
            table.writerow([sample.token, "none", sample.answer if number < 10 else "maybe"])
            table.writerow([sample.token, "cautious", sample.answer if number % 3 == 0 else "I stop, I think"])
    pruning = ["pruning.methods=[none,cautious]", "pruning.options={cautious: {method: none}}"]
    given = [f"data.planning_set={data}/set.jsonl", f"data.image_root={data}", f"output={tmp_path}/run"]
    return [PLANNER, f"model.path={tmp_path}/answers.csv", *given, *pruning, "scoring.resamples=50"]


def test_a_planner_without_tokens_goes_through_statistics_and_report(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert eval_planning.main(arguments) == 0
    (group,) = json.loads((tmp_path / "run" / "results.json").read_text())["groups"]
    right = {row["row"]: row["accuracy"] for row in group["rows"]}
    assert right["none"] == pytest.approx(10 / 12)
    assert right["cautious"] == pytest.approx(4 / 12)
    assert report.main([str(tmp_path / "run")]) == 0
    assert "cautious" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "nan" not in (tmp_path / "run" / "report.md").read_text(encoding="utf-8").lower()
    capsys.readouterr()
    assert eval_planning.main([*arguments, "--explain"]) == 0
    assert "tells no schedule" in capsys.readouterr().out
    # Resumed, nothing is asked again; and another table is another run.
    before = (tmp_path / "run" / "decisions.jsonl").read_bytes()
    assert eval_planning.main(arguments) == 0
    assert (tmp_path / "run" / "decisions.jsonl").read_bytes() == before


def test_what_is_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for system, message in (
        ("nowhere:Planner", "'nowhere:Planner' cannot be imported (No module named 'nowhere')"),
        ("examples.past_answers:Nobody", "cannot be imported (module 'examples.past_answers' has no attribute"),
        ("examples.past_answers", "cannot be imported"),
        (":PastAnswers", "cannot be imported"),
        ("examples.past_answers:PLANNER", "cannot be imported"),
        ("examples.past_answers:csv", "is no class"),
    ):
        refused(
            capsys,
            monkeypatch,
            eval_planning.main,
            [f"system={system}", *arguments[1:]],
            message,
            "package.module:Class",
        )
    table = tmp_path / "answers.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]), encoding="utf-8")
    refused(capsys, monkeypatch, eval_planning.main, arguments, "no answer under cautious")


def test_the_protocol_has_five_members() -> None:
    from senna_prune.evaluation.run.system import EvaluatedSystem

    assert {name for name in vars(EvaluatedSystem) if not name.startswith("_")} == {
        "identity",
        "resolve",
        "load",
        "prepare",
        "decide",
    }
