"""From decision lines to scores: reads nothing but the lines and what `run.json` says of conditions and model shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from senna_prune.config import ScoringConfig
from senna_prune.cost import ModelShape, decision_flops, kv_bytes
from senna_prune.errors import RunError
from senna_prune.evaluation.run.records import MAJORITY, SCHEMA_VERSION, UNPRUNED, Condition, Record
from senna_prune.evaluation.score.adaptation import adaptation
from senna_prune.evaluation.score.comparisons import compare
from senna_prune.evaluation.score.consistency import require_consistent
from senna_prune.evaluation.score.metrics import agree, is_correct, majority_answer, planning_metrics, read_plan
from senna_prune.evaluation.score.nuscenes_val import in_nuscenes_val
from senna_prune.evaluation.score.reference_metric import ReferenceScore
from senna_prune.evaluation.score.statistics import SceneBootstrap, mean_outcome, wilson


@dataclass(frozen=True)
class Row:
    """One row of the table: all seeds of a method at one retention.

    Attributes:
        name: e.g. `autoprune@0.25`.
        conditions: one per seed; empty for `majority`.
        runs: per seed, sample key -> record; for `majority` its only run.
    """

    name: str
    conditions: tuple[Condition, ...]
    runs: tuple[Mapping[str, Record], ...]

    def outcomes(self, protocol: str) -> list[dict[str, bool]]:
        """Per seed, sample key -> correct."""
        return [{key: is_correct(r.truth, r.answer, protocol) for key, r in run.items()} for run in self.runs]


def score(
    records: Iterable[Record],
    conditions: Sequence[Condition],
    shape: ModelShape,
    scoring: ScoringConfig,
    complete: bool,
) -> dict[str, Any]:
    """Scores of a run, one group per convention, as plain JSON values.

    Only samples decided under every condition count, so every row is of the same samples. Of samples with an unusable
    picture, `count_wrong` scores a wrong answer in every row and `skip_reported` leaves the sample out of every row;
    their number is reported either way.

    Raises:
        RunError: not a single sample is complete, or a decision contradicts conditions or shape.
    """
    by_sample: dict[str, dict[str, Record]] = {}
    for record in records:
        by_sample.setdefault(record.sample, {})[record.condition] = record
    require_consistent((record for runs in by_sample.values() for record in runs.values()), conditions, shape)
    whole = {key: runs for key, runs in by_sample.items() if all(c.id in runs for c in conditions)}
    if not whole:
        raise RunError("no sample is decided under every condition yet", hint="let the run go on for longer")
    groups: dict[str, dict[str, dict[str, Record]]] = {}
    for key, runs in whole.items():
        groups.setdefault(next(iter(runs.values())).convention, {})[key] = runs
    return {
        "schema": SCHEMA_VERSION,
        "status": "complete" if complete else "partial",
        "protocol": scoring.protocol,
        "on_error": scoring.on_error,
        "groups": [
            {"convention": name, **_score_group(group, conditions, shape, scoring)}
            for name, group in sorted(groups.items())
        ],
    }


def _score_group(
    group: Mapping[str, Mapping[str, Record]],
    conditions: Sequence[Condition],
    shape: ModelShape,
    scoring: ScoringConfig,
) -> dict[str, Any]:
    failed = sorted(key for key, runs in group.items() if any(r.error for r in runs.values()))
    left_out = set(failed) if scoring.on_error == "skip_reported" else set()
    keys = [key for key in group if key not in left_out]
    if not keys:
        raise RunError("every sample has an unusable picture", hint="set data.image_root")
    # Wrong in every row alike, also in those that decided the sample before its picture failed.
    rows = _rows({key: _unanswered(group[key]) if key in failed else group[key] for key in keys}, conditions)
    outcomes = {row.name: row.outcomes(scoring.protocol) for row in rows}
    scenes = {key: next(iter(group[key].values())).scene for key in keys}
    bootstrap = SceneBootstrap(scenes, scoring.resamples, scoring.seed)
    compared = compare(outcomes, {row.name: row.conditions for row in rows}, bootstrap, scenes)
    unpruned = next(row for row in rows if row.name == UNPRUNED)
    return {
        "samples": len(keys),
        "scenes": len(set(scenes.values())),
        "nuscenes_val": all(map(in_nuscenes_val, scenes.values())),
        "failed": len(failed),
        "first_failure": next((r.error for r in group[failed[0]].values() if r.error), None) if failed else None,
        "rows": [
            _score_row(row, unpruned, outcomes, shape, bootstrap) | {"comparisons": compared.get(row.name, [])}
            for row in rows
        ],
    }


def _rows(group: Mapping[str, Mapping[str, Record]], conditions: Sequence[Condition]) -> list[Row]:
    seeds: dict[str, list[Condition]] = {}
    for condition in conditions:
        seeds.setdefault(condition.row, []).append(condition)
    rows = [
        Row(name, tuple(members), tuple({key: runs[c.id] for key, runs in group.items()} for c in members))
        for name, members in seeds.items()
    ]
    truths = {key: next(iter(runs.values())) for key, runs in group.items()}
    answer = majority_answer([record.truth for record in truths.values()])
    failed = {key for key, runs in group.items() if any(record.error for record in runs.values())}
    majority = {
        key: Record(
            key, MAJORITY, record.scene, record.convention, record.truth, answer=None if key in failed else answer
        )
        for key, record in truths.items()
    }
    return [Row(MAJORITY, (), (majority,)), *rows]


def _unanswered(runs: Mapping[str, Record]) -> dict[str, Record]:
    return {condition: replace(record, answer=None) for condition, record in runs.items()}


def _score_row(
    row: Row,
    unpruned: Row,
    outcomes: Mapping[str, Sequence[Mapping[str, bool]]],
    shape: ModelShape,
    bootstrap: SceneBootstrap,
) -> dict[str, Any]:
    records = [record for run in row.runs for record in run.values()]
    metrics = planning_metrics([r.truth for r in records], [r.answer for r in records])
    own, full = mean_outcome(outcomes[row.name]), mean_outcome(outcomes[UNPRUNED])
    accuracy, below = sum(own.values()) / len(own), sum(full.values()) / len(full)
    reference = ReferenceScore()
    for record in records:
        reference.add(record.truth, record.answer or "")
    loyal = [agree(r.answer, unpruned.runs[0][r.sample].answer) for r in records]
    speed, path = (mean_outcome([_half_right(run, half) for run in row.runs]) for half in (0, 1))
    seeds = [condition.seed for condition in row.conditions if condition.seed is not None]
    return {
        "row": row.name,
        "label": row.conditions[0].label if row.conditions else MAJORITY,
        "method": row.conditions[0].method if row.conditions else MAJORITY,
        "retention": row.conditions[0].retention if row.conditions else None,
        "positions": row.conditions[0].positions if row.conditions else None,
        "seeds": seeds or None,
        "accuracy": accuracy,
        "accuracy_interval": _bounds(bootstrap.mean(own)),
        # Over the samples, not over samples times seeds: more seeds are not more samples.
        "accuracy_wilson": _bounds(wilson(round(accuracy * len(own)), len(own))),
        "speed_interval": _bounds(bootstrap.mean(speed)),
        "path_interval": _bounds(bootstrap.mean(path)),
        "accuracy_by_seed": [sum(run.values()) / len(run) for run in outcomes[row.name]],
        "ratio": accuracy / below if below else None,
        "ratio_interval": _bounds(bootstrap.ratio(own, full)),
        "loyalty": sum(loyal) / len(loyal) if row.conditions else None,
        **{f"parsed_{name}" if name == "accuracy" else name: value for name, value in asdict(metrics).items()},
        "reference": {
            "total": reference.total,
            "correct": reference.correct,
            "accuracy_percent": reference.accuracy_percent,
            "f1": reference.f1(),
            "summary": reference.summary(),
        },
        "cost": _cost(records, shape),
        "adaptation": adaptation(row.conditions[0], [r.trace for r in records if r.trace]) if row.conditions else None,
    }


def _half_right(run: Mapping[str, Record], half: int) -> dict[str, bool]:
    return {key: read_plan(record.truth)[half] == read_plan(record.answer)[half] for key, record in run.items()}


def _cost(records: Sequence[Record], shape: ModelShape) -> dict[str, Any] | None:
    """Means over the decisions of a row, from their traces."""
    traced = [(r.trace, r.readout_positions) for r in records if r.trace is not None]
    if not traced:
        return None
    flops = [decision_flops(shape, trace.entering, trace.text, positions) for trace, positions in traced]
    return {
        "tokens_entering": _mean([sum(trace.entering) / len(trace.entering) for trace, _ in traced]),
        "tokens_after": _mean([sum(trace.after) / len(trace.after) for trace, _ in traced]),
        "flops": {stage: _mean([getattr(f, stage) for f in flops]) for stage in (*asdict(flops[0]), "total")},
        "kv_bytes": _mean([kv_bytes(shape, trace.entering, trace.text) for trace, _ in traced]),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _bounds(interval: Any) -> list[float] | None:
    return [interval.low, interval.high] if interval else None
