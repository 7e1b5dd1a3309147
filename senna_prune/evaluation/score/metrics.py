"""Planning metrics of one method on one set of samples: pure functions of true and given answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, recall_score

from senna_prune.evaluation.score.reference_metric import reference_correct
from senna_prune.task.answers import parse_answer
from senna_prune.task.labels import PLANS, Path, Speed

NOT_PARSED = "(none)"
"""Predicted class of an answer that names no class, or two."""

SPEEDS = tuple(speed.value for speed in Speed)
PATHS = tuple(path.value for path in Path)


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 in [0, 1] of one class, and how often it is true."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class PlanningMetrics:
    """Shares in [0, 1] over `count` samples.

    Attributes:
        count: samples.
        accuracy: speed and path both right.
        speed_accuracy, path_accuracy: one of them right.
        balanced_accuracy: mean recall over the plans (of the 20) that occur in the truth.
        unparsed: answers of which speed or path could not be read.
        classes: the nine classes, speeds first.
        speed_confusion, path_confusion: rows true, columns predicted; the last column is `NOT_PARSED`.
    """

    count: int
    accuracy: float
    speed_accuracy: float
    path_accuracy: float
    balanced_accuracy: float
    unparsed: float
    classes: dict[str, ClassScore]
    speed_confusion: list[list[int]]
    path_confusion: list[list[int]]


def read_plan(text: str | None) -> tuple[str, str]:
    """Speed and path named by an answer, `NOT_PARSED` for a half that cannot be read or an answer that is missing."""
    answer = parse_answer(text or "")
    return (
        answer.speed.value if answer.speed else NOT_PARSED,
        answer.path.value if answer.path else NOT_PARSED,
    )


def is_correct(truth: str, answer: str | None, protocol: str) -> bool:
    """Whether an answer is right: both halves parsed and equal (`parsed`), or by the released substring rule.

    A missing answer is wrong under both.
    """
    if answer is None:
        return False
    return reference_correct(truth, answer) if protocol == "reference" else read_plan(truth) == read_plan(answer)


def agree(answer: str | None, unpruned: str | None) -> bool:
    """Agreement of one answer: it names the same plan as the unpruned model's or, unparsed, is the same text."""
    if answer is None or unpruned is None:
        return False
    plan = read_plan(answer)
    return plan == read_plan(unpruned) and (NOT_PARSED not in plan or answer.strip() == unpruned.strip())


def planning_metrics(truths: Sequence[str], answers: Sequence[str | None]) -> PlanningMetrics:
    """Metrics of equally long, non-empty lists of true plans and given answers (None: no answer could be given)."""
    assert truths
    true, given = [read_plan(text) for text in truths], [read_plan(text) for text in answers]
    count = len(true)
    true_plans, given_plans = [", ".join(plan) for plan in true], [", ".join(plan) for plan in given]
    occurring = [text for s, p in PLANS if (text := f"{s.value}, {p.value}") in true_plans]
    classes: dict[str, ClassScore] = {}
    confusion = []
    for half, names in ((0, SPEEDS), (1, PATHS)):
        y_true, y_given = [plan[half] for plan in true], [plan[half] for plan in given]
        columns = precision_recall_fscore_support(y_true, y_given, labels=list(names), zero_division=0.0)
        for name, precision, recall, f1, support in zip(names, *columns, strict=True):
            classes[name] = ClassScore(float(precision), float(recall), float(f1), int(support))
        matrix = confusion_matrix(y_true, y_given, labels=[*names, NOT_PARSED])
        confusion.append(matrix[: len(names)].tolist())
    return PlanningMetrics(
        count=count,
        accuracy=_share(t == g for t, g in zip(true, given, strict=True)),
        speed_accuracy=_share(t[0] == g[0] for t, g in zip(true, given, strict=True)),
        path_accuracy=_share(t[1] == g[1] for t, g in zip(true, given, strict=True)),
        balanced_accuracy=float(recall_score(true_plans, given_plans, labels=occurring, average="macro")),
        unparsed=_share(NOT_PARSED in plan for plan in given),
        classes=classes,
        speed_confusion=confusion[0],
        path_confusion=confusion[1],
    )


def majority_answer(truths: Sequence[str]) -> str:
    """The most frequent true plan; ties go to the first in the order of the 20 plans."""
    plans = [", ".join(read_plan(text)) for text in truths]
    order = [f"{speed.value}, {path.value}" for speed, path in PLANS]
    return max(order, key=lambda plan: (plans.count(plan), -order.index(plan)))


def _share(flags: Iterable[bool]) -> float:
    values = list(flags)
    return sum(values) / len(values)
