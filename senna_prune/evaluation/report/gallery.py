"""The failure gallery: samples that the unpruned model answers rightly and a method does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from senna_prune.evaluation.run.records import UNPRUNED, Condition, Record
from senna_prune.evaluation.run.run_folder import Lines
from senna_prune.evaluation.score.judge import KIND_ORDER, is_right
from senna_prune.task.sample import PlanningSample

MOST = 24
"""Failures that are shown."""


@dataclass(frozen=True)
class Failures:
    """What pruning loses.

    Attributes:
        counts: row of a method -> kind -> samples that only the unpruned model has right, and only the method.
        shown: at most `MOST` failures as plain JSON values: sample key, condition, kind, scene, truth, both answers.
    """

    counts: dict[str, dict[str, tuple[int, int]]]
    shown: list[dict[str, Any]]


def failures(
    samples: Sequence[PlanningSample], lines: Lines, conditions: Sequence[Condition], protocol: str
) -> Failures:
    """Failures of every method with a budget; of a method with several seeds, those of its first.

    Methods and kinds take turns, and samples whose kept tokens were recorded come first, so that they can be drawn.
    """
    first = {c.row: c for c in reversed(conditions) if c.retention is not None}
    rows = [row for row in dict.fromkeys(c.row for c in conditions) if row in first]
    counts: dict[str, dict[str, tuple[int, int]]] = {row: {} for row in rows}
    queues: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for sample in sorted(samples, key=lambda one: KIND_ORDER.index(one.kind)):
        unpruned = _record(lines, sample, UNPRUNED)
        before = _right(unpruned, protocol)
        if unpruned is None or before is None:
            continue
        for row in rows:
            record = _record(lines, sample, first[row].id)
            after = _right(record, protocol)
            if record is None or after is None:
                continue
            lost, gained = counts[row].get(sample.kind, (0, 0))
            counts[row][sample.kind] = lost + (before and not after), gained + (after and not before)
            if before and not after:
                queues.setdefault((sample.kind, row), []).append(_entry(sample, unpruned, record))
    for queue in queues.values():
        queue.sort(key=lambda entry: not entry["drawn"])
    shown: list[dict[str, Any]] = []
    while len(shown) < MOST and any(queues.values()):
        shown += [queue.pop(0) for queue in queues.values() if queue]
    return Failures(counts, shown[:MOST])


def failure_rows(counts: Mapping[str, Mapping[str, tuple[int, int]]]) -> list[dict[str, str]]:
    """A table: method, and for every kind how many samples pruning lost and gained."""
    kinds = dict.fromkeys(kind for of_row in counts.values() for kind in of_row)
    return [
        {"method": row, **{f"{kind}: lost / gained": " / ".join(map(str, of_row.get(kind, (0, 0)))) for kind in kinds}}
        for row, of_row in counts.items()
    ]


def _record(lines: Lines, sample: PlanningSample, condition: str) -> Record | None:
    record, _ = lines.get((sample.key, condition), (None, None))
    return record


def _right(record: Record | None, protocol: str) -> bool | None:
    return None if record is None else is_right(record.kind, record.truth, record.answer, protocol)


def _entry(sample: PlanningSample, unpruned: Record, record: Record) -> dict[str, Any]:
    return {
        "sample": sample.key,
        "condition": record.condition,
        "kind": sample.kind,
        "scene": sample.scene,
        "truth": sample.answer.strip(),
        "unpruned": unpruned.answer,
        "answer": record.answer if record.answer is not None else "(unusable picture)",
        "drawn": bool(record.trace and record.trace.depths),
    }
