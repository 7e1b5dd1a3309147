"""The released planning metric, on recorded cases and on its quirks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from senna_prune.evaluation.score.reference_metric import reference_correct, reference_score
from tests.conftest import golden_cases

CASES = [
    pytest.param(path, name, id=f"{path.stem}-{name}")
    for path in golden_cases("senna/plan_metric*.json")
    for name in json.loads(path.read_text(encoding="utf-8"))
]


@pytest.mark.golden
@pytest.mark.parametrize(("path", "name"), CASES)
def test_recorded_case(path: Path, name: str) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))[name]
    asked = [sample for sample in case["samples"] if sample["is_plan_question"]]
    score = reference_score((sample["gt"], sample["answer"]) for sample in asked)
    assert (score["total"], score["correct"], score["summary"]) == (case["total"], case["correct"], case["summary"])
    # Up to the order of one multiplication and one division.
    assert score["accuracy_percent"] == pytest.approx(case["accuracy_percent"], rel=1e-13)
    assert score["f1"] == pytest.approx(case["f1"], rel=1e-13)
    for name in ("tp", "fp", "fn"):
        assert score[name] == case[f"speed_{name}"] | case[f"path_{name}"]
    assert list(score["plan_total"].items()) == list(case["per_class_total"].items())
    assert score["plan_correct"] == case["per_class_correct"]


def test_substring_rule_accepts_a_contradiction() -> None:
    assert reference_correct("KEEP, STRAIGHT\n", "KEEP, LEFT_TURN, STRAIGHT")
    assert not reference_correct("KEEP, STRAIGHT\n", "keep, straight")


def test_hit_is_credited_to_every_class_the_answer_names() -> None:
    hits = reference_score([("KEEP, STRAIGHT", "KEEP, LEFT_TURN, STRAIGHT")])["tp"]
    assert [hits[name] for name in ("RIGHT_TURN", "LEFT_TURN", "STRAIGHT")] == [0, 1, 1]


def test_nothing_scored_is_zero_not_an_error() -> None:
    score = reference_score([])
    assert score["accuracy_percent"] == 0.0
    assert set(score["f1"].values()) == {0.0}
    assert score["summary"] == "Total Number: 0\nCorrect Number: 0\nPlanning Accuracy: 0.00%"
