"""`protocol: reference`: the released Senna planning metric, quirks included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from senna_prune.task.labels import Path, Speed

_SPEEDS = tuple(speed.value for speed in Speed)
# The released script never scores lane changes, and lists paths in this order.
_F1_PATHS = (Path.RIGHT_TURN.value, Path.LEFT_TURN.value, Path.STRAIGHT.value)
_PATHS = tuple(p.value for p in (Path.RIGHT_TURN, Path.RIGHT_CHANGE, Path.LEFT_TURN, Path.LEFT_CHANGE, Path.STRAIGHT))


def reference_correct(truth: str, answer: str) -> bool:
    """Both words of the truth are substrings of the answer, whatever else it says."""
    return all(word in answer for word in split_truth(truth))


def split_truth(truth: str) -> tuple[str, str]:
    """Speed and path of a reference answer such as `KEEP, LEFT_TURN`, surrounding white space ignored."""
    speed, _, path = truth.strip().partition(", ")
    return speed, path


@dataclass
class ClassCounts:
    """True positives, false positives and false negatives by class, as the released script counts them."""

    tp: dict[str, int]
    fp: dict[str, int]
    fn: dict[str, int]

    @classmethod
    def zero(cls, classes: Iterable[str]) -> ClassCounts:
        names = list(classes)
        return cls(dict.fromkeys(names, 0), dict.fromkeys(names, 0), dict.fromkeys(names, 0))

    def add(self, truth: str, answer: str) -> None:
        """Count one answer. A class that the answer names is a hit if the *true* word stands anywhere in the answer,
        even where the two differ; that is the released rule."""
        for name in self.tp:
            if name in answer:
                (self.tp if truth in answer else self.fp)[name] += 1
            elif name == truth:
                self.fn[name] += 1

    def f1(self) -> dict[str, float]:
        scores = {}
        for name, hits in self.tp.items():
            precision = hits / (hits + self.fp[name]) if hits else 0.0
            recall = hits / (hits + self.fn[name]) if hits else 0.0
            scores[name] = 2 * precision * recall / (precision + recall) if hits else 0.0
        return scores


@dataclass
class ReferenceScore:
    """Counts of the released script over planning questions; feed it with `add`."""

    total: int = 0
    correct: int = 0
    speed: ClassCounts = field(default_factory=lambda: ClassCounts.zero(_SPEEDS))
    path: ClassCounts = field(default_factory=lambda: ClassCounts.zero(_F1_PATHS))
    plan_total: dict[str, int] = field(default_factory=dict)
    plan_correct: dict[str, int] = field(default_factory=dict)

    def add(self, truth: str, answer: str) -> None:
        speed, path = split_truth(truth)
        hit = reference_correct(truth, answer)
        self.total += 1
        self.correct += hit
        self.speed.add(speed, answer)
        self.path.add(path, answer)
        name = f"{speed}_{path}"
        self.plan_total[name] = self.plan_total.get(name, 0) + 1
        self.plan_correct[name] = self.plan_correct.get(name, 0) + hit

    @property
    def accuracy_percent(self) -> float:
        return 100 * self.correct / self.total if self.total else 0.0

    def f1(self) -> dict[str, float]:
        return {**self.speed.f1(), **self.path.f1()}

    def plans(self) -> list[str]:
        """Names of the plans that occur, in the released order: speed-major, straight last."""
        return [f"{s}_{p}" for s in _SPEEDS for p in _PATHS if f"{s}_{p}" in self.plan_total]

    def summary(self) -> str:
        """The text that the released script prints."""
        lines = [
            f"Total Number: {self.total}",
            f"Correct Number: {self.correct}",
            f"Planning Accuracy: {self.accuracy_percent:.2f}%",
        ]
        for name in self.plans():
            total, correct = self.plan_total[name], self.plan_correct[name]
            lines.append(f"{name}: num: {total}, correct num: {correct}, {100 * correct / total:.2f}%")
        return "\n".join(lines)
