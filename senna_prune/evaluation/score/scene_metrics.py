"""Metrics of answers about the scene: road users, motions, traffic lights. Pure functions of true and given answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sklearn.metrics import f1_score, recall_score

from senna_prune.evaluation.score.metrics import NOT_PARSED
from senna_prune.task.answers import Answer
from senna_prune.task.scene_answers import parse_light, parse_motions, parse_road_users


@dataclass(frozen=True)
class RoadUserMetrics:
    """Shares in [0, 1] over `count` samples; a share of nothing is None.

    Attributes:
        count: samples.
        accuracy: answers that are right in whether there is a road user.
        f1: of "there is one".
        balanced_accuracy: mean recall of yes and no, of those that are true somewhere.
        unparsed: answers that say neither yes nor no, or both. They count as wrong.
        true_users, named_users: road users of all reference answers, and of all given ones.
        found: of both the same: kind, side and distance in steps of 5 m, each true one found at most once.
        list_precision, list_recall, list_f1: `found` by what was named, by what is true, and both.
    """

    count: int
    accuracy: float
    f1: float
    balanced_accuracy: float
    unparsed: float
    true_users: int
    named_users: int
    found: int
    list_precision: float | None
    list_recall: float | None
    list_f1: float | None


@dataclass(frozen=True)
class ObjectShares:
    """Of `objects` true motions: shares of which the speed action, the path action, and both are right."""

    objects: int
    speed: float
    path: float
    both: float


@dataclass(frozen=True)
class MotionMetrics:
    """Shares in [0, 1] over the objects of `count` samples, which are one camera's view each.

    Attributes:
        count: samples.
        objects: true motions.
        accuracy, speed_accuracy, path_accuracy: objects with both actions, the speed action, the path action right.
        speed_macro_f1, path_macro_f1: mean F1 over the actions that occur in the truth.
        exact_match: samples with every object right and no other object named.
        unparsed: samples whose answer names no object at all.
        unread: objects of which the answer gives no speed or no path action. They count as wrong.
        added: objects that answers name beyond the true ones.
        cameras: the same shares by camera.
    """

    count: int
    objects: int
    accuracy: float
    speed_accuracy: float
    path_accuracy: float
    speed_macro_f1: float
    path_macro_f1: float
    exact_match: float
    unparsed: float
    unread: float
    added: int
    cameras: dict[str, ObjectShares]


@dataclass(frozen=True)
class LightMetrics:
    """Traffic lights: share of right answers, mean recall of the colours that occur, share of unparsed answers."""

    count: int
    accuracy: float
    balanced_accuracy: float
    unparsed: float


def road_user_metrics(truths: Sequence[str], answers: Sequence[str | None]) -> RoadUserMetrics:
    """Metrics of equally long, non-empty lists of true and given answers (None: no answer could be given)."""
    true = [parse_road_users(text) for text in truths]
    given = [parse_road_users(text or "") for text in answers]
    y_true, y_given = [_presence(one.present) for one in true], [_presence(one.present) for one in given]
    pairs = list(zip(true, given, strict=True))
    true_users, named_users = sum(len(t.seen) for t in true), sum(len(g.seen) for g in given)
    found = sum((Counter(t.seen) & Counter(g.seen)).total() for t, g in pairs)
    return RoadUserMetrics(
        count=len(true),
        accuracy=share(t.present == g.present for t, g in pairs),
        f1=_macro_f1(y_true, y_given, {"yes"}),
        balanced_accuracy=_balanced(y_true, y_given),
        unparsed=share(not g.parsed for g in given),
        true_users=true_users,
        named_users=named_users,
        found=found,
        list_precision=found / named_users if named_users else None,
        list_recall=found / true_users if true_users else None,
        list_f1=2 * found / (true_users + named_users) if true_users + named_users else None,
    )


def motion_metrics(
    truths: Sequence[str], answers: Sequence[str | None], cameras: Sequence[str] | None = None
) -> MotionMetrics:
    """Metrics of equally long, non-empty lists of true and given answers (None: no answer could be given).

    Args:
        cameras: of each sample; None leaves out the shares by camera.
    """
    true = [parse_motions(text).objects for text in truths]
    given = [parse_motions(text or "").objects for text in answers]
    pairs = list(zip(true, given, strict=True))
    of_sample = [[(motion, g.get(number, _NONE)) for number, motion in t.items()] for t, g in pairs]
    every = [pair for sample in of_sample for pair in sample]
    by_camera: dict[str, list[tuple[Answer, Answer]]] = {}
    for camera, sample in zip(cameras or [], of_sample, strict=cameras is not None):
        by_camera.setdefault(camera, []).extend(sample)
    total = _object_shares(every)
    return MotionMetrics(
        count=len(true),
        objects=total.objects,
        accuracy=total.both,
        speed_accuracy=total.speed,
        path_accuracy=total.path,
        speed_macro_f1=_macro_f1([_word(t.speed) for t, _ in every], [_word(g.speed) for _, g in every]),
        path_macro_f1=_macro_f1([_word(t.path) for t, _ in every], [_word(g.path) for _, g in every]),
        exact_match=share(t == g for t, g in pairs),
        unparsed=share(not g for g in given),
        unread=share(not g.parsed for _, g in every),
        added=sum(len(g.keys() - t.keys()) for t, g in pairs),
        cameras={camera: _object_shares(by_camera[camera]) for camera in sorted(by_camera)},
    )


def light_metrics(truths: Sequence[str], answers: Sequence[str | None]) -> LightMetrics:
    """Metrics of equally long, non-empty lists of true and given answers (None: no answer could be given)."""
    true, given = [_light(text) for text in truths], [_light(text or "") for text in answers]
    return LightMetrics(
        count=len(true),
        accuracy=share(t == g for t, g in zip(true, given, strict=True)),
        balanced_accuracy=_balanced(true, given),
        unparsed=share(g == NOT_PARSED for g in given),
    )


def share(flags: Iterable[bool]) -> float:
    """Share of true ones in a non-empty series."""
    values = list(flags)
    return sum(values) / len(values)


_NONE = Answer(None, None)


def _object_shares(pairs: Sequence[tuple[Answer, Answer]]) -> ObjectShares:
    return ObjectShares(
        objects=len(pairs),
        speed=share(t.speed == g.speed for t, g in pairs),
        path=share(t.path == g.path for t, g in pairs),
        both=share(t == g for t, g in pairs),
    )


def _presence(present: bool | None) -> str:
    return NOT_PARSED if present is None else "yes" if present else "no"


def _light(text: str) -> str:
    light = parse_light(text)
    return light.value if light else NOT_PARSED


def _word(label: object) -> str:
    return getattr(label, "value", NOT_PARSED)


def _macro_f1(true: Sequence[str], given: Sequence[str], labels: Collection[str] | None = None) -> float:
    """Mean F1 of the labels; of all that occur in the truth where none are given."""
    return float(f1_score(true, given, labels=sorted(labels or set(true)), average="macro", zero_division=0.0))


def _balanced(true: Sequence[str], given: Sequence[str]) -> float:
    return float(recall_score(true, given, labels=sorted(set(true)), average="macro", zero_division=0.0))
