"""Scores by circumstances: command, speed, true plan, time of day and weather."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from senna_prune.evaluation.run.records import UNPRUNED, Condition
from senna_prune.evaluation.score.decisions import Questions
from senna_prune.evaluation.score.metrics import read_plan
from senna_prune.evaluation.score.statistics import ALPHA, holm, share_interval, sign_flip
from senna_prune.task.labels import PLAN
from senna_prune.task.sample import PlanningSample

SPEED_BINS = (0.0, 2.0, 5.0, 10.0, 15.0)
"""Lower ends in m/s; the first bin holds a car that stands or creeps, the last has no upper end."""
NIGHT = re.compile(r"\bnight\b", re.IGNORECASE)
RAIN = re.compile(r"\brain", re.IGNORECASE)
"""Words of a scene's description. `after rain` counts as rain, as in published splits of nuScenes."""


def _speed_bin(sample: PlanningSample) -> str | None:
    if sample.speed is None:
        return None
    number = max((n for n, low in enumerate(SPEED_BINS) if low <= sample.speed), default=0)
    if number == len(SPEED_BINS) - 1:
        return f"from {SPEED_BINS[number]:g} m/s"
    return f"{SPEED_BINS[number]:g} to {SPEED_BINS[number + 1]:g} m/s"


def _said(pattern: re.Pattern[str], yes: str, no: str) -> Callable[[PlanningSample], str | None]:
    return lambda sample: (yes if pattern.search(sample.description) else no) if sample.description else None


FACETS: dict[str, Callable[[PlanningSample], str | None]] = {
    "command": lambda sample: sample.command,
    "speed": _speed_bin,
    "true plan": lambda sample: ", ".join(read_plan(sample.answer)) if sample.kind == PLAN else None,
    "time of day": _said(NIGHT, "night", "day"),
    "weather": _said(RAIN, "rain", "no rain"),
}
"""What a sample is sorted by; None where it does not say."""


def breakdowns(
    part: Questions, samples: Sequence[PlanningSample], conditions: Sequence[Condition]
) -> list[dict[str, Any]]:
    """One entry per facet and value with the score of every row, compared with the unpruned model's: the values of a
    facet are one family at each retention. A facet of one value alone is left out: it says what the whole table says.
    """
    scores, found = part.by_sample(), []
    retentions = {condition.row: condition.retention for condition in conditions}
    known = [sample for sample in samples if sample.key in scores.index]
    for facet, value_of in FACETS.items():
        values: dict[str, list[str]] = {}
        for sample in known:
            if (value := value_of(sample)) is not None:
                values.setdefault(value, []).append(sample.key)
        entries: list[dict[str, Any]] = []
        for value in sorted(values, key=_natural) if len(values) > 1 else ():
            own, scenes = scores.loc[values[value]], part.scenes[values[value]]
            rows = {
                str(row): {
                    "score": float(own[row].mean()),
                    "score_interval": share_interval(own[row], scenes),
                    "difference": float(own[row].mean() - own[UNPRUNED].mean()),
                    "p": sign_flip(own[row], own[UNPRUNED], scenes),
                }
                for row in own
            }
            entry = {"convention": part.convention, "kind": part.kind, "facet": facet, "value": value}
            entries.append(entry | {"samples": len(own), "scenes": scenes.nunique(), "rows": rows})
        for retention in {retentions.get(row) for row in part.rows}:
            family = [
                cells
                for entry in entries
                for row, cells in entry["rows"].items()
                if row != UNPRUNED and retentions.get(row) == retention
            ]
            for cells, adjusted in zip(family, holm([cells["p"] for cells in family]), strict=True):
                cells |= {"p_holm": adjusted, "supported": adjusted < ALPHA}
        found += entries
    return found


def _natural(value: str) -> tuple[float, str]:
    """Speed bins by their speeds, all else by its letters."""
    number = re.search(r"\d+", value)
    return (float(number[0]) if number and value.endswith("m/s") else 0.0, value)
