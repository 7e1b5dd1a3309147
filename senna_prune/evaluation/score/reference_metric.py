"""`protocol: reference`: the released Senna planning metric, quirks included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from senna_prune.task.labels import Path, Speed

_SPEEDS = tuple(speed.value for speed in Speed)
# The released script never scores lane changes, and lists paths in this order.
_F1_PATHS = (Path.RIGHT_TURN.value, Path.LEFT_TURN.value, Path.STRAIGHT.value)
_PATHS = tuple(p.value for p in (Path.RIGHT_TURN, Path.RIGHT_CHANGE, Path.LEFT_TURN, Path.LEFT_CHANGE, Path.STRAIGHT))


def reference_correct(truth: str, answer: str) -> bool:
    """Both words of the truth, such as `KEEP, LEFT_TURN`, are substrings of the answer, whatever else it says."""
    return all(word in answer for word in truth.strip().partition(", ")[::2])


def reference_score(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What the released script counts over true and given plans.

    A class that an answer names is a hit if the *true* word stands anywhere in the answer, even where the two differ;
    that is the released rule.

    Returns:
        `total`, `correct`, `accuracy_percent`; by class `tp`, `fp`, `fn`, `f1`; by plan, in the released order
        (speed-major, straight last), `plan_total` and `plan_correct`; `summary`: the text that the script prints.
    """
    tp, fp, fn = (dict.fromkeys((*_SPEEDS, *_F1_PATHS), 0) for _ in range(3))
    totals, hits = Counter[str](), Counter[str]()
    for (truth, answer), times in Counter(pairs).items():
        speed, _, path = truth.strip().partition(", ")
        for true, names in ((speed, _SPEEDS), (path, _F1_PATHS)):
            for name in names:
                if name in answer:
                    (tp if true in answer else fp)[name] += times
                elif name == true:
                    fn[name] += times
        totals[f"{speed}_{path}"] += times
        hits[f"{speed}_{path}"] += times * reference_correct(truth, answer)
    f1 = {}
    for name, right in tp.items():
        precision, recall = (right / (right + wrong[name]) if right else 0.0 for wrong in (fp, fn))
        f1[name] = 2 * precision * recall / (precision + recall) if right else 0.0
    total, correct = totals.total(), hits.total()
    percent = 100 * correct / total if total else 0.0
    plans = [plan for s in _SPEEDS for p in _PATHS if (plan := f"{s}_{p}") in totals]
    lines = [f"Total Number: {total}", f"Correct Number: {correct}", f"Planning Accuracy: {percent:.2f}%"]
    lines += [
        f"{plan}: num: {totals[plan]}, correct num: {hits[plan]}, {100 * hits[plan] / totals[plan]:.2f}%"
        for plan in plans
    ]
    return {
        **{"total": total, "correct": correct, "accuracy_percent": percent, "tp": tp, "fp": fp, "fn": fn, "f1": f1},
        "plan_total": {plan: totals[plan] for plan in plans},
        "plan_correct": {plan: hits[plan] for plan in plans},
        "summary": "\n".join(lines),
    }
