"""Measured time and memory of a run: kept apart from its scores, as they differ from run to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from senna_prune.evaluation.records import SCHEMA_VERSION, Condition, Decision

BACKGROUND = "preprocess"
"""Stage that runs in the background: what the loop notices of it is waiting."""

SHARED = (BACKGROUND, "vision", "adapter")
"""Stages that ran once for all conditions of a sample, though every one of its decisions names them."""


@dataclass
class Spent:
    """Where the time of the deciding loop went, in seconds.

    Attributes:
        total: of the loop.
        model: in the stages of the model, each as often as it ran.
        waiting: for pictures that were not ready in time.
    """

    total: float = 0.0
    model: float = 0.0
    waiting: float = 0.0

    def count(self, decisions: Sequence[Decision], *, encoding: bool) -> None:
        """Add the model's time of decisions; `encoding`: they are the first after their samples were encoded."""
        left_out = {BACKGROUND} if encoding else set(SHARED)
        for decision in decisions:
            self.model += 1e-3 * sum(time for stage, time in decision.milliseconds.items() if stage not in left_out)

    @property
    def overhead(self) -> float:
        """What the evaluator itself took."""
        return self.total - self.model - self.waiting

    def __str__(self) -> str:
        shares = [100 * part / self.total if self.total else 0.0 for part in (self.overhead, self.waiting)]
        return f"evaluator overhead {shares[0]:.1f} % of {self.total:.1f} s, waiting for pictures {shares[1]:.1f} %"


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
