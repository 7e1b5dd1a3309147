"""Metrics on cases worked out by hand."""

from __future__ import annotations

import pytest

from senna_prune.evaluation.score.judge import is_right, say_the_same
from senna_prune.evaluation.score.metrics import majority_answers, planning_metrics

TRUTHS = ["KEEP, STRAIGHT"] * 4 + ["STOP, STRAIGHT"] * 2 + ["KEEP, LEFT_TURN"] * 2
ANSWERS = [
    "KEEP, STRAIGHT",
    "KEEP, STRAIGHT",
    "KEEP, LEFT_TURN",
    "mumble",
    "STOP, STRAIGHT",
    "KEEP, STRAIGHT",
    "KEEP, LEFT_TURN",
    None,
]


def test_by_hand() -> None:
    metrics = planning_metrics(TRUTHS, ANSWERS)
    assert metrics["count"] == 8
    assert metrics["accuracy"] == 4 / 8
    assert metrics["speed_accuracy"] == 5 / 8
    assert metrics["path_accuracy"] == 5 / 8
    # Recalls of the three plans that occur: 2/4, 1/2, 1/2.
    assert metrics["balanced_accuracy"] == pytest.approx(0.5)
    assert metrics["unparsed"] == 2 / 8
    keep = metrics["classes"]["KEEP"]
    # KEEP: answered five times, four of them true; true six times.
    assert (keep["precision"], keep["recall"], keep["support"]) == (4 / 5, 4 / 6, 6)
    assert keep["f1"] == pytest.approx(2 * 0.8 * (4 / 6) / (0.8 + 4 / 6))
    assert metrics["classes"]["RIGHT_TURN"]["f1"] == 0.0
    assert len(metrics["classes"]) == 9


def test_confusion_by_hand() -> None:
    metrics = planning_metrics(TRUTHS, ANSWERS)
    assert metrics["speed_confusion"] == [[4, 0, 0, 0, 2], [0] * 5, [0] * 5, [1, 0, 0, 1, 0]]
    assert metrics["path_confusion"] == [[4, 0, 0, 0, 1, 1], [0] * 6, [0] * 6, [0] * 6, [0, 0, 0, 0, 1, 1]]


def test_perfect_answers() -> None:
    metrics = planning_metrics(TRUTHS, TRUTHS)
    assert metrics["accuracy"] == metrics["balanced_accuracy"] == 1.0
    assert metrics["unparsed"] == 0.0


def test_majority_and_its_tie() -> None:
    assert majority_answers("plan", TRUTHS) == ["KEEP, STRAIGHT"] * 8
    assert majority_answers("plan", ["STOP, STRAIGHT\n", "ACCELERATE, STRAIGHT"]) == ["ACCELERATE, STRAIGHT"] * 2


@pytest.mark.parametrize(
    ("answer", "parsed", "reference"),
    [
        ("KEEP, STRAIGHT", True, True),
        ("keep, straight.", True, False),
        ("KEEP, LEFT_TURN, STRAIGHT", False, True),
        ("STOP, STRAIGHT", False, False),
        (None, False, False),
    ],
)
def test_protocols_differ_where_they_should(answer: str | None, parsed: bool, reference: bool) -> None:
    assert is_right("plan", "KEEP, STRAIGHT\n", answer, "parsed") is parsed
    assert is_right("plan", "KEEP, STRAIGHT\n", answer, "reference") is reference


def test_agreement() -> None:
    assert say_the_same("plan", "keep, straight", "KEEP, STRAIGHT\n")
    assert not say_the_same("plan", "STOP, STRAIGHT", "KEEP, STRAIGHT")
    assert say_the_same("plan", "mumble", "mumble ")
    assert not say_the_same("plan", "mumble", "grumble")
    assert not say_the_same("plan", None, "KEEP, STRAIGHT")
    assert not say_the_same("plan", "KEEP, STRAIGHT", None)
