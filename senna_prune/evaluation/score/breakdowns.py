"""Scores by the circumstances of a sample: command, speed, true plan, time of day, weather."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from senna_prune.config import ScoringConfig
from senna_prune.evaluation.run.records import Condition, Record
from senna_prune.evaluation.score.kinds import KindRows, bounds, kind_rows
from senna_prune.evaluation.score.metrics import read_plan
from senna_prune.evaluation.score.statistics import SceneBootstrap
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


def break_down(
    records: Iterable[Record],
    samples: Iterable[PlanningSample],
    conditions: Sequence[Condition],
    scoring: ScoringConfig,
) -> list[dict[str, Any]]:
    """One entry per convention, kind of question, facet and value, as plain JSON values, with the score of every row.

    A facet of one value alone is left out: it says what the whole table says.
    """
    by_key = {sample.key: sample for sample in samples}
    found = []
    for convention, parts in kind_rows(records, conditions, scoring.on_error).items():
        for part in parts:
            scores = {row: part.scores(row, scoring.protocol) for row in part.runs}
            for facet, value_of in FACETS.items():
                values = {key: value_of(by_key[key]) for key in part.scenes if key in by_key}
                named = sorted({value for value in values.values() if value is not None}, key=_natural)
                for value in named if len(named) > 1 else []:
                    keys = [key for key, own in values.items() if own == value]
                    entry = {"convention": convention, "kind": part.kind, "facet": facet, "value": value}
                    found.append(entry | _of_keys(part, scores, keys, scoring))
    return found


def _of_keys(
    part: KindRows, scores: dict[str, dict[str, float]], keys: Sequence[str], scoring: ScoringConfig
) -> dict[str, Any]:
    scenes = {key: part.scenes[key] for key in keys}
    bootstrap = SceneBootstrap(scenes, scoring.resamples, scoring.seed)
    rows = {}
    for row, of_row in scores.items():
        own = {key: of_row[key] for key in keys}
        rows[row] = {"score": float(np.mean(list(own.values()))), "score_interval": bounds(bootstrap.mean(own))}
    return {"samples": len(keys), "scenes": len(set(scenes.values())), "rows": rows}


def _natural(value: str) -> tuple[float, str]:
    """Speed bins by their speeds, all else by its letters."""
    number = re.search(r"\d+", value)
    return (float(number[0]) if number and value.endswith("m/s") else 0.0, value)
