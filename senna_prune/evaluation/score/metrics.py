"""Metrics of a row's answers, by kind of question: pure functions of equally long, non-empty lists of true and given
answers (None: no answer could be given), as plain JSON values. Shares are in [0, 1]; a share of nothing is None."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support, recall_score

from senna_prune.evaluation.score.text_metrics import FREE_TEXT, text_metrics
from senna_prune.task.answers import Answer, parse_answer, parse_light, parse_motions, parse_road_users
from senna_prune.task.labels import PLAN, PLANS, Path, Speed, plan_text

NOT_PARSED = "(none)"
"""Predicted class of an answer that names no class, or two."""
SPEEDS = tuple(speed.value for speed in Speed)
PATHS = tuple(path.value for path in Path)

Answers = Sequence[str | None]


def share(flags: Iterable[bool]) -> float:
    """Share of true ones in a non-empty series."""
    values = list(flags)
    return sum(values) / len(values)


def _macro_f1(true: Sequence[str], given: Sequence[str], labels: Iterable[str] = ()) -> float:
    """Mean F1 of the labels; of all that occur in the truth where none are given."""
    return float(f1_score(true, given, labels=sorted(labels or set(true)), average="macro", zero_division=0.0))


def _balanced(true: Sequence[str], given: Sequence[str]) -> float:
    """Mean recall of the classes that occur in the truth."""
    return float(recall_score(true, given, labels=sorted(set(true)), average="macro", zero_division=0.0))


def _word(label: Any) -> str:
    return getattr(label, "value", NOT_PARSED)


# Plans ----------------------------------------------------------------------------------------------------------------


def read_plan(text: str | None) -> tuple[str, str]:
    """Speed and path named by an answer, `NOT_PARSED` for a half that cannot be read or an answer that is missing."""
    answer = parse_answer(text or "")
    return _word(answer.speed), _word(answer.path)


def planning_metrics(truths: Sequence[str], answers: Answers) -> dict[str, Any]:
    """Of plans.

    Returns:
        `accuracy`: speed and path both right; `speed_accuracy`, `path_accuracy`: one of them. `balanced_accuracy`: mean
        recall over the plans (of the 20) that occur in the truth. `unparsed`: speed or path could not be read.
        `classes`: precision, recall, F1 and how often it is true, of the nine classes, speeds first.
        `speed_confusion`, `path_confusion`: rows true, columns predicted, the last of them `NOT_PARSED`.
    """
    true, given = [read_plan(text) for text in truths], [read_plan(text) for text in answers]
    found: dict[str, Any] = {
        "count": len(true),
        "accuracy": share(t == g for t, g in zip(true, given, strict=True)),
        "balanced_accuracy": _balanced([", ".join(plan) for plan in true], [", ".join(plan) for plan in given]),
        "unparsed": share(NOT_PARSED in plan for plan in given),
        "classes": {},
    }
    for half, (name, labels) in enumerate((("speed", SPEEDS), ("path", PATHS))):
        y_true, y_given = [plan[half] for plan in true], [plan[half] for plan in given]
        found[f"{name}_accuracy"] = share(t == g for t, g in zip(y_true, y_given, strict=True))
        columns = precision_recall_fscore_support(y_true, y_given, labels=list(labels), zero_division=0.0)
        for label, *scores, support in zip(labels, *columns, strict=True):
            precision, recall, f1 = map(float, scores)
            found["classes"][label] = {"precision": precision, "recall": recall, "f1": f1, "support": int(support)}
        matrix = confusion_matrix(y_true, y_given, labels=[*labels, NOT_PARSED])
        found[f"{name}_confusion"] = matrix[: len(labels)].tolist()
    return found


# Answers about the scene ----------------------------------------------------------------------------------------------


def road_user_metrics(truths: Sequence[str], answers: Answers) -> dict[str, Any]:
    """Of questions for road users.

    Returns:
        `accuracy`: right in whether there is one; `f1`: of "there is one". `unparsed`: says neither yes nor no, or
        both, which counts as wrong. `true_users`, `named_users`: of all reference answers, of all given ones. `found`:
        of both the same, by kind, side and distance in steps of 5 m, each true one at most once. `list_precision`,
        `list_recall`, `list_f1`: `found` by what was named, by what is true, and both.
    """
    true, given = ([parse_road_users(text or "") for text in texts] for texts in (truths, answers))
    y_true, y_given = ([{None: NOT_PARSED, True: "yes"}.get(a.present, "no") for a in one] for one in (true, given))
    real, named = (sum(len(answer.seen) for answer in one) for one in (true, given))
    found = sum((Counter(t.seen) & Counter(g.seen)).total() for t, g in zip(true, given, strict=True))
    return {
        "count": len(true),
        "accuracy": share(t == g for t, g in zip(y_true, y_given, strict=True)),
        "f1": _macro_f1(y_true, y_given, {"yes"}),
        "balanced_accuracy": _balanced(y_true, y_given),
        "unparsed": share(not answer.parsed for answer in given),
        "true_users": real,
        "named_users": named,
        "found": found,
        "list_precision": found / named if named else None,
        "list_recall": found / real if real else None,
        "list_f1": 2 * found / (real + named) if real + named else None,
    }


def motion_metrics(truths: Sequence[str], answers: Answers, cameras: Sequence[str] = ()) -> dict[str, Any]:
    """Of the objects of samples that are one camera's view each; `cameras` names it, where shares by it are wanted.

    Returns:
        `accuracy`, `speed_accuracy`, `path_accuracy`: objects with both actions, the speed action, the path action
        right. `speed_macro_f1`, `path_macro_f1`: mean F1 over the actions that occur. `exact_match`: samples with every
        object right and no other named. `unparsed`: samples whose answer names no object. `unread`: objects of which
        the answer gives no speed or no path, which count as wrong. `added`: objects named beyond the true ones.
        `cameras`: the same shares by camera.
    """
    true, given = ([parse_motions(text or "").objects for text in texts] for texts in (truths, answers))
    pairs = list(zip(true, given, strict=True))
    of_sample = [[(motion, g.get(number, Answer(None, None))) for number, motion in t.items()] for t, g in pairs]
    every = [pair for sample in of_sample for pair in sample]
    by_camera: dict[str, list[tuple[Answer, Answer]]] = {camera: [] for camera in sorted(set(cameras))}
    for camera, sample in zip(cameras, of_sample, strict=bool(cameras)):
        by_camera[camera] += sample
    total = _object_shares(every)
    halves = {half: [[_word(getattr(a, half)) for a in side] for side in zip(*every, strict=True)] for half in HALVES}
    return {
        "count": len(true),
        "objects": total["objects"],
        "accuracy": total["both"],
        **{f"{half}_accuracy": total[half] for half in HALVES},
        **{f"{half}_macro_f1": _macro_f1(*words) for half, words in halves.items()},
        "exact_match": share(t == g for t, g in pairs),
        "unparsed": share(not objects for objects in given),
        "unread": share(not answer.parsed for _, answer in every),
        "added": sum(len(g.keys() - t.keys()) for t, g in pairs),
        "cameras": {camera: _object_shares(of_camera) for camera, of_camera in by_camera.items()},
    }


HALVES = ("speed", "path")


def _object_shares(pairs: Sequence[tuple[Answer, Answer]]) -> dict[str, Any]:
    shares = {half: share(getattr(t, half) == getattr(g, half) for t, g in pairs) for half in HALVES}
    return {"objects": len(pairs), **shares, "both": share(t == g for t, g in pairs)}


def light_metrics(truths: Sequence[str], answers: Answers) -> dict[str, Any]:
    """Of traffic lights: share of right answers, mean recall of the colours that occur, share of unparsed answers."""
    true, given = ([_word(parse_light(text or "")) for text in texts] for texts in (truths, answers))
    return {
        "count": len(true),
        "accuracy": share(t == g for t, g in zip(true, given, strict=True)),
        "balanced_accuracy": _balanced(true, given),
        "unparsed": share(word == NOT_PARSED for word in given),
    }


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    PLAN: planning_metrics,
    "vru": road_user_metrics,
    "motion": motion_metrics,
    "traffic_light": light_metrics,
    **dict.fromkeys(FREE_TEXT, text_metrics),
}
"""All metrics of a kind, with `unparsed`."""


# Who sees nothing -----------------------------------------------------------------------------------------------------


def majority_answers(kind: str, truths: Sequence[str]) -> list[str] | None:
    """What somebody would answer who knows the frequencies of the truths and sees nothing; None for free text.

    The most frequent plan, presence or light; of motions the most frequent one for every object. Ties go to the first
    in the order of the 20 plans, else to what comes first.
    """
    if kind in FREE_TEXT:
        return None
    if kind == "motion":
        objects = [parse_motions(text).objects for text in truths]
        ((motion, _),) = Counter(motion for one in objects for motion in one.values()).most_common(1)
        plan = ", ".join((_word(motion.speed), _word(motion.path)))
        return ["".join(f"Object {number}: {plan}\n" for number in one) for one in objects]
    if kind == PLAN:
        counts = Counter(", ".join(read_plan(text)) for text in truths)
        common = max((plan_text(*plan) for plan in PLANS), key=lambda plan: counts[plan])
    elif kind == "vru":
        ((present, _),) = Counter(parse_road_users(text).present for text in truths).most_common(1)
        common = "Yes." if present else "No."
    else:
        ((light, _),) = Counter(parse_light(text) for text in truths).most_common(1)
        common = light.value if light else ""
    return [common] * len(truths)
