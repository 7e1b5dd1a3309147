"""The released planning metric, on recorded cases and on its quirks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from senna_prune.evaluation.score.reference_metric import ReferenceScore, reference_correct
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
    score = ReferenceScore()
    for sample in case["samples"]:
        if sample["is_plan_question"]:
            score.add(sample["gt"], sample["answer"])
    assert (score.total, score.correct) == (case["total"], case["correct"])
    # Up to the order of one multiplication and one division.
    assert score.accuracy_percent == pytest.approx(case["accuracy_percent"], rel=1e-13)
    assert score.f1() == pytest.approx(case["f1"], rel=1e-13)
    assert (score.speed.tp, score.speed.fp, score.speed.fn) == (case["speed_tp"], case["speed_fp"], case["speed_fn"])
    assert (score.path.tp, score.path.fp, score.path.fn) == (case["path_tp"], case["path_fp"], case["path_fn"])
    assert {name: score.plan_total[name] for name in score.plans()} == case["per_class_total"]
    assert {name: score.plan_correct[name] for name in score.plans()} == case["per_class_correct"]
    assert list(score.plans()) == list(case["per_class_total"])
    assert score.summary() == case["summary"]


def test_substring_rule_accepts_a_contradiction() -> None:
    assert reference_correct("KEEP, STRAIGHT\n", "KEEP, LEFT_TURN, STRAIGHT")
    assert not reference_correct("KEEP, STRAIGHT\n", "keep, straight")


def test_hit_is_credited_to_every_class_the_answer_names() -> None:
    score = ReferenceScore()
    score.add("KEEP, STRAIGHT", "KEEP, LEFT_TURN, STRAIGHT")
    assert score.path.tp == {"RIGHT_TURN": 0, "LEFT_TURN": 1, "STRAIGHT": 1}


def test_nothing_scored_is_zero_not_an_error() -> None:
    score = ReferenceScore()
    assert score.accuracy_percent == 0.0
    assert set(score.f1().values()) == {0.0}
    assert score.summary() == "Total Number: 0\nCorrect Number: 0\nPlanning Accuracy: 0.00%"
