"""One answer against its truth, for every kind of question: how right it is, and whether two answers say the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from senna_prune.evaluation.score.metrics import NOT_PARSED, read_plan, share
from senna_prune.evaluation.score.reference_metric import reference_correct
from senna_prune.evaluation.score.text_metrics import FREE_TEXT, sentence_chrf
from senna_prune.task.answers import parse_light, parse_motions, parse_road_users, parse_text
from senna_prune.task.labels import PLAN

KIND_ORDER = (PLAN, "vru", "motion", "traffic_light", *FREE_TEXT)
"""Order of the column groups of tables."""

SCORES = {
    PLAN: "speed and path both right",
    "vru": "right in whether there is a road user",
    "motion": "share of the objects with speed and path right",
    "traffic_light": "the right light",
    **dict.fromkeys(FREE_TEXT, "chrF, a weak measure"),
}
"""What the score of one answer is, by kind; a kind's score is the mean over its samples."""

_READ: dict[str, Callable[[str], Any]] = {
    PLAN: read_plan,
    "vru": parse_road_users,
    "motion": parse_motions,
    "traffic_light": parse_light,
    **dict.fromkeys(FREE_TEXT, parse_text),
}


def score_of(kind: str, truth: str, answer: str | None, protocol: str) -> float:
    """How right an answer is, in [0, 1]; see `SCORES`. A missing answer scores 0.

    Args:
        kind: of the question.
        truth: reference answer, one that `task.answers` accepts.
        answer: what was answered, None where nothing could be.
        protocol: of plans: both halves parsed and equal (`parsed`), or the released substring rule (`reference`).
    """
    if answer is None:
        return 0.0
    if kind in FREE_TEXT:
        return sentence_chrf(truth, answer)
    if kind == PLAN and protocol == "reference":
        return float(reference_correct(truth, answer))
    true, given = _READ[kind](truth), _READ[kind](answer)
    if kind == "motion":
        return share(given.objects.get(number) == motion for number, motion in true.objects.items())
    return float(true.present == given.present if kind == "vru" else true == given)


def is_right(kind: str, truth: str, answer: str | None, protocol: str) -> bool | None:
    """Whether an answer is wholly right; None for free text, of which no measure tells, and without a truth."""
    return None if kind in FREE_TEXT or not truth.strip() else score_of(kind, truth, answer, protocol) == 1


def say_the_same(kind: str, answer: str | None, other: str | None) -> bool:
    """Whether two answers are read alike or, where neither can be read, are the same text."""
    if answer is None or other is None:
        return False
    read = _READ[kind](answer)
    parsed = NOT_PARSED not in read if kind == PLAN else getattr(read, "parsed", read)
    return bool(read == _READ[kind](other) and (parsed or answer.strip() == other.strip()))
