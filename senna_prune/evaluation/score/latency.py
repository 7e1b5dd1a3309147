"""Measured time and memory of a run. They differ from run to run, so they are kept apart from its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from senna_prune.evaluation.run.records import SCHEMA_VERSION, Condition, Record
from senna_prune.task.labels import PLAN


def summarise_run(
    lines: Mapping[tuple[str, str], tuple[Record, Mapping[str, Any]]], conditions: Sequence[Condition]
) -> dict[str, Any]:
    """`timing.json`: the times of plans by row, and where other questions were asked too theirs by kind and row.

    Args:
        lines: record and timing (`milliseconds` by stage, `peak_bytes`) by (sample key, condition id).
        conditions: of the run; seeds of a row are pooled.

    Returns:
        By row: `count`, `p50` and `p95` in milliseconds of every stage and of their sum, and `peak_bytes`.
    """
    row_of = {condition.id: condition.row for condition in conditions}
    timed = [(record, timing) for record, timing in lines.values() if timing.get("milliseconds")]
    table = pd.DataFrame(
        {
            "kind": [record.kind for record, _ in timed],
            "row": [row_of[record.condition] for record, _ in timed],
            "peak": [timing.get("peak_bytes") for _, timing in timed],
        }
    )
    stages = pd.DataFrame([timing["milliseconds"] for _, timing in timed], index=table.index, dtype=float)
    stages["total"] = [float(sum(timing["milliseconds"].values())) for _, timing in timed]
    kinds = {PLAN, *(record.kind for record, _ in lines.values())}
    found: dict[str, dict[str, Any]] = {kind: {} for kind in sorted(kinds)}
    for kind in found:
        for row in dict.fromkeys(row_of.values()):
            own = stages[(table["kind"] == kind) & (table["row"] == row)].dropna(axis="columns", how="all").fillna(0.0)
            if own.empty:
                continue
            own = own[[*sorted(set(own) - {"total"}), "total"]]
            p50, p95 = ({s: round(float(ms), 4) for s, ms in own.quantile(q).items()} for q in (0.5, 0.95))
            peak = table.loc[own.index, "peak"].dropna()
            found[kind][row] = {
                **{"count": len(own), "p50": p50, "p95": p95},
                "peak_bytes": None if peak.empty else int(peak.max()),
            }
    plans = {"schema": SCHEMA_VERSION, "rows": found.pop(PLAN)}
    return {**plans, "kinds": found} if found else plans


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
    """Median milliseconds of a decision and score, of the rows whose time was measured."""
    times = timing["rows"]
    return {row["row"]: (times[row["row"]]["p50"]["total"], row["score"]) for row in rows if row["row"] in times}
