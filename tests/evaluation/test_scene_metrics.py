"""Metrics of answers about the scene, against cases worked out by hand."""

from __future__ import annotations

import builtins

import pytest

from senna_prune.errors import ConfigError
from senna_prune.evaluation.score import text_metrics as text_module
from senna_prune.evaluation.score.judge import is_right, say_the_same, score_of
from senna_prune.evaluation.score.metrics import (
    light_metrics,
    majority_answers,
    motion_metrics,
    road_user_metrics,
)
from senna_prune.evaluation.score.text_metrics import require_text_metrics, sentence_chrf, text_metrics

NO = "No, I don't see any vulnerable road users ahead of me."
ONE = "Yes, I see a pedestrian located 12 meters ahead of me and 3 meters to the left."
TWO = "Yes, I see a pedestrian located 11 meters ahead of me, and a bicycle located 3 meters ahead of me."


def test_road_users_by_hand() -> None:
    truths = [NO, NO, ONE, TWO, TWO]
    answers = [
        NO,  # right
        "Yes, I see a bicycle located 4 meters ahead of me.",  # wrong; 1 named, 0 found
        "Yes, I see a pedestrian located 14 meters ahead of me and 9 meters to the left.",  # right; same bucket, side
        "Yes, I see a pedestrian located 10 meters ahead of me, and a pedestrian located 12 meters ahead of me.",
        "Who knows.",  # unparsed
    ]
    metrics = road_user_metrics(truths, answers)
    assert metrics["count"] == 5
    assert metrics["accuracy"] == 3 / 5
    # "yes": 2 hits, 1 false alarm (second), 1 miss (fifth): F1 = 2*2 / (2*2 + 1 + 1)
    assert metrics["f1"] == pytest.approx(4 / 6)
    assert metrics["balanced_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert metrics["unparsed"] == 1 / 5
    # true: 1 + 2 + 2; named: 1 + 1 + 2; found: the left pedestrian, and one of the two pedestrians ahead (10 to 15 m)
    assert (metrics["true_users"], metrics["named_users"], metrics["found"]) == (5, 4, 2)
    assert (metrics["list_precision"], metrics["list_recall"]) == (2 / 4, 2 / 5)
    assert metrics["list_f1"] == pytest.approx(4 / 9)


def test_shares_of_nothing_are_not_numbers() -> None:
    metrics = road_user_metrics([NO, NO], [NO, None])
    assert (metrics["accuracy"], metrics["unparsed"], metrics["balanced_accuracy"]) == (0.5, 0.5, 0.5)
    assert metrics["f1"] == 0
    assert metrics["list_precision"] is metrics["list_recall"] is metrics["list_f1"] is None


def test_motions_by_hand() -> None:
    truths = [
        "Object 1: KEEP, STRAIGHT\nObject 2: STOP, STRAIGHT\n",
        "Object 1: KEEP, LEFT_TURN\n",
        "Object 1: STOP, STRAIGHT\n",
    ]
    answers = [
        "Object 1: KEEP, STRAIGHT\nObject 2: KEEP, STRAIGHT\nObject 3: STOP, STRAIGHT\n",  # one added
        "Object 1: KEEP\n",  # no path: unread
        "nothing",  # unparsed, its object unread
    ]
    metrics = motion_metrics(truths, answers, ["front", "back", "back"])
    assert (metrics["count"], metrics["objects"], metrics["added"]) == (3, 4, 1)
    assert (metrics["accuracy"], metrics["speed_accuracy"], metrics["path_accuracy"]) == (1 / 4, 2 / 4, 2 / 4)
    # KEEP: 2 hits, 1 false alarm: 4/5. STOP: 2 misses: 0.
    assert metrics["speed_macro_f1"] == pytest.approx(4 / 5 / 2)
    # STRAIGHT: 2 hits, 1 miss: 4/5. LEFT_TURN: missed.
    assert metrics["path_macro_f1"] == pytest.approx(4 / 5 / 2)
    assert metrics["exact_match"] == 0
    assert (metrics["unparsed"], metrics["unread"]) == (1 / 3, 2 / 4)
    assert metrics["cameras"] == {
        "back": {"objects": 2, "speed": 0.5, "path": 0.0, "both": 0.0},
        "front": {"objects": 2, "speed": 0.5, "path": 1.0, "both": 0.5},
    }
    assert motion_metrics(truths, truths)["exact_match"] == motion_metrics(truths, truths)["accuracy"] == 1
    assert motion_metrics(truths, truths)["cameras"] == {}


def test_lights_by_hand() -> None:
    metrics = light_metrics(["Red", "Red", "None", "Green"], ["Red", "green", "None.", "Red or green"])
    assert metrics["accuracy"] == 2 / 4
    assert metrics["balanced_accuracy"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert metrics["unparsed"] == 1 / 4


def test_free_text_against_sacrebleus_definition() -> None:
    pytest.importorskip("sacrebleu", reason="sacrebleu is an optional extra")
    metrics = text_metrics(["a red car ahead", "no cars here at all"], ["a  red car ahead", "no cars here at all"])
    assert metrics["chrf"] == pytest.approx(1)
    assert metrics["bleu"] == pytest.approx(1)
    assert text_metrics(["a red car", "x"], ["", None])["unparsed"] == 1
    # chrF2 of "ab" against "abc", without spaces: precision 2/2 and 1/1, recall 2/3 and 1/2 of 1-grams and 2-grams, and
    # no longer n-gram in the answer. Mean precision 1 and recall 7/12, beta 2.
    assert sentence_chrf("abc", "ab") == pytest.approx(5 * 7 / 12 / (4 + 7 / 12), abs=1e-6)


def test_free_text_needs_sacrebleu_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "sacrebleu":
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    text_module._sacrebleu.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    require_text_metrics(["plan", "vru"])
    with pytest.raises(ConfigError, match=r"sacrebleu, which is not installed.*senna_prune\[text\]"):
        require_text_metrics(["plan", "explanation"])


def test_scores_of_single_answers() -> None:
    two = "Object 1: KEEP, STRAIGHT\nObject 2: STOP, STRAIGHT\n"
    assert score_of("motion", two, "Object 2: STOP, STRAIGHT", "parsed") == 0.5
    assert is_right("motion", two, "Object 2: STOP, STRAIGHT", "parsed") is False
    assert score_of("vru", ONE, "Yes, I see a bicycle.", "parsed") == 1
    assert score_of("traffic_light", "Red", "It is red.", "parsed") == 1
    assert score_of("plan", "KEEP, STRAIGHT", "KEEP, STRAIGHT, ACCELERATE", "parsed") == 0
    assert score_of("plan", "KEEP, STRAIGHT", "KEEP, STRAIGHT, ACCELERATE", "reference") == 1
    assert all(score_of(kind, two, None, "parsed") == 0 for kind in ("plan", "vru", "motion", "traffic_light"))
    assert is_right("description", "a car", "a car", "parsed") is None


def test_answers_that_say_the_same() -> None:
    assert say_the_same("vru", ONE, ONE.replace("12 meters", "14 meters"))
    assert not say_the_same("vru", ONE, TWO)
    assert not say_the_same("vru", "Perhaps.", "Who knows.")
    assert say_the_same("vru", "Perhaps.", "Perhaps. ")
    assert say_the_same("motion", "Object 1: KEEP, STRAIGHT", "object 1 - keep straight")
    assert say_the_same("explanation", "The light  is red.", "The light is red.")
    assert not say_the_same("motion", None, "Object 1: KEEP, STRAIGHT")


def test_majority_answers_by_hand() -> None:
    assert majority_answers("vru", [NO, ONE, NO]) == ["No."] * 3
    motions = ["Object 1: KEEP, STRAIGHT\nObject 2: STOP, STRAIGHT", "Object 1: STOP, STRAIGHT"]
    assert majority_answers("motion", motions) == [
        "Object 1: STOP, STRAIGHT\nObject 2: STOP, STRAIGHT\n",
        "Object 1: STOP, STRAIGHT\n",
    ]
    assert majority_answers("traffic_light", ["None", "Red", "None"]) == ["None"] * 3
    assert majority_answers("description", ["a car"]) is None
