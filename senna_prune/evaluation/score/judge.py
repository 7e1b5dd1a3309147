"""One answer against its truth, for every kind of question: how right it is, and whether two answers say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from senna_prune.evaluation.score.metrics import agree, is_correct, majority_answer, planning_metrics
from senna_prune.evaluation.score.scene_metrics import light_metrics, motion_metrics, road_user_metrics, share
from senna_prune.evaluation.score.text_metrics import FREE_TEXT, sentence_chrf, text_metrics
from senna_prune.task.answers import Answer
from senna_prune.task.labels import PLAN, plan_text
from senna_prune.task.scene_answers import parse_light, parse_motions, parse_road_users, parse_text

KIND_ORDER = (PLAN, "vru", "motion", "traffic_light", *FREE_TEXT)
"""Order of the column groups of tables."""

SCORES = {
    PLAN: "speed and path both right",
    "vru": "right in whether there is a road user",
    "motion": "share of the objects with speed and path right",
    "traffic_light": "the right light",
    "description": "chrF, a weak measure",
    "explanation": "chrF, a weak measure",
}
"""What the score of one answer is, by kind; a kind's score is the mean over its samples."""

_PARSERS: dict[str, Callable[[str], Any]] = {
    "vru": parse_road_users,
    "motion": parse_motions,
    "traffic_light": parse_light,
    **dict.fromkeys(FREE_TEXT, parse_text),
}
MEASURES: dict[str, Callable[[Sequence[str], Sequence[str | None]], Any]] = {
    PLAN: planning_metrics,
    "vru": road_user_metrics,
    "motion": motion_metrics,
    "traffic_light": light_metrics,
    **dict.fromkeys(FREE_TEXT, text_metrics),
}
"""All metrics of a kind, as a dataclass with `unparsed`."""


def score_of(kind: str, truth: str, answer: str | None, protocol: str) -> float:
    """How right an answer is, in [0, 1]; see `SCORES`. A missing answer scores 0.

    Args:
        kind: of the question.
        truth: reference answer, one that `task.truths` accepts.
        answer: what was answered, None where nothing could be.
        protocol: how plans are counted, see `is_correct`.
    """
    if answer is None:
        return 0.0
    if kind == PLAN:
        return float(is_correct(truth, answer, protocol))
    if kind == "vru":
        return float(parse_road_users(truth).present == parse_road_users(answer).present)
    if kind == "motion":
        given = parse_motions(answer).objects
        return share(given.get(number) == motion for number, motion in parse_motions(truth).objects.items())
    if kind == "traffic_light":
        return float(parse_light(truth) == parse_light(answer))
    return sentence_chrf(truth, answer)


def is_right(kind: str, truth: str, answer: str | None, protocol: str) -> bool | None:
    """Whether an answer is wholly right; None for free text, of which no measure tells."""
    return None if kind in FREE_TEXT else score_of(kind, truth, answer, protocol) == 1


def say_the_same(kind: str, answer: str | None, other: str | None) -> bool:
    """Whether two answers are read alike or, where neither can be read, are the same text."""
    if answer is None or other is None:
        return False
    if kind == PLAN:
        return agree(answer, other)
    parse = _PARSERS[kind]
    read = parse(answer)
    return bool(read == parse(other) and (getattr(read, "parsed", read) or answer.strip() == other.strip()))


def majority_answers(kind: str, truths: Sequence[str]) -> list[str] | None:
    """What somebody would answer who knows the frequencies of the truths and sees nothing; None for free text.

    The most frequent plan, presence or light; of motions the most frequent one for every object. Ties go to the plan
    that `majority_answer` prefers, else to what comes first.
    """
    if kind in FREE_TEXT:
        return None
    if kind == PLAN:
        return [majority_answer(truths)] * len(truths)
    if kind == "vru":
        ((present, _),) = Counter(parse_road_users(text).present for text in truths).most_common(1)
        return ["Yes." if present else "No."] * len(truths)
    if kind == "motion":
        objects = [parse_motions(text).objects for text in truths]
        ((motion, _),) = Counter(motion for one in objects for motion in one.values()).most_common(1)
        return ["".join(f"Object {number}: {_text(motion)}\n" for number in one) for one in objects]
    ((light, _),) = Counter(parse_light(text) for text in truths).most_common(1)
    return [light.value if light else ""] * len(truths)


def _text(motion: Answer) -> str:
    assert motion.speed is not None
    assert motion.path is not None
    return plan_text(motion.speed, motion.path)
