"""Measured time and memory of a run. They differ from run to run, so they are kept apart from its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from senna_prune.evaluation.run.records import SCHEMA_VERSION, Condition, Record
from senna_prune.task.labels import PLAN


def summarise_timing(
    timing: Mapping[tuple[str, str], Mapping[str, Any]], conditions: Sequence[Condition]
) -> dict[str, Any]:
    """p50 and p95 in milliseconds of every stage and of their sum, and peak memory, by row.

    Args:
        timing: by (sample key, condition id): `milliseconds` by stage and `peak_bytes`.
        conditions: of the run; seeds of a row are pooled.
    """
    row_of = {condition.id: condition.row for condition in conditions}
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for (_, condition), entry in timing.items():
        if entry.get("milliseconds"):
            rows.setdefault(row_of[condition], []).append(entry)
    return {"schema": SCHEMA_VERSION, "rows": {row: _summary(rows[row]) for row in row_of.values() if row in rows}}


def summarise_run(
    lines: Mapping[tuple[str, str], tuple[Record, Mapping[str, Any]]], conditions: Sequence[Condition]
) -> dict[str, Any]:
    """`timing.json`: the times of plans by row, and where other questions were asked too theirs by kind and row.

    Args:
        lines: record and timing by (sample key, condition id).
        conditions: of the run.
    """
    of_kind: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = {PLAN: {}}
    for key, (record, entry) in lines.items():
        of_kind.setdefault(record.kind, {})[key] = entry
    plans = summarise_timing(of_kind.pop(PLAN), conditions)
    others = {kind: summarise_timing(of_kind[kind], conditions)["rows"] for kind in sorted(of_kind)}
    return {**plans, "kinds": others} if others else plans


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the rows that no other row beats in both time and accuracy, by ascending time.

    Args:
        points: milliseconds and accuracy by row. Of rows equal in both, all are kept.
    """
    front: list[str] = []
    best = -1.0
    for name, (time, accuracy) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if accuracy > best or (front and points[front[-1]] == (time, accuracy)):
            front.append(name)
            best = accuracy
    return front


def accuracy_and_time(rows: Sequence[Mapping[str, Any]], timing: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Median milliseconds of a decision and accuracy, of the rows whose time was measured."""
    return {
        row["row"]: (timing["rows"][row["row"]]["p50"]["total"], row["accuracy"])
        for row in rows
        if row["row"] in timing["rows"]
    }


def _summary(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    stages = sorted({stage for entry in entries for stage in entry["milliseconds"]})
    columns = {stage: [float(entry["milliseconds"].get(stage, 0.0)) for entry in entries] for stage in stages}
    columns["total"] = [sum(entry["milliseconds"].values()) for entry in entries]
    peaks = [entry["peak_bytes"] for entry in entries if entry.get("peak_bytes") is not None]
    return {
        "count": len(entries),
        "p50": {stage: round(float(np.quantile(values, 0.5)), 4) for stage, values in columns.items()},
        "p95": {stage: round(float(np.quantile(values, 0.95)), 4) for stage, values in columns.items()},
        "peak_bytes": max(peaks) if peaks else None,
    }
