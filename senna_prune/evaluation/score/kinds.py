"""Scores by kind of question, one row per method, and one retention ratio over all kinds (Table 3's heading)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from senna_prune.config import ScoringConfig
from senna_prune.evaluation.run.records import MAJORITY, UNPRUNED, Condition, Record
from senna_prune.evaluation.score.judge import KIND_ORDER, MEASURES, majority_answers, score_of
from senna_prune.evaluation.score.scene_metrics import motion_metrics
from senna_prune.evaluation.score.statistics import Interval, SceneBootstrap
from senna_prune.evaluation.score.text_metrics import FREE_TEXT
from senna_prune.task.sample import PlanningSample

RUN = Mapping[str, Record]
"""One condition on all samples of a kind: sample key -> record."""


@dataclass(frozen=True)
class KindRows:
    """All decisions about one kind of question under one convention.

    Attributes:
        kind: of `KINDS`.
        runs: row name -> one run per seed. `majority` stands first where the kind has one.
        conditions: row name -> its conditions, one per seed.
        scenes: sample key -> scene.
        failed: samples with an unusable picture.
    """

    kind: str
    runs: dict[str, list[RUN]]
    conditions: dict[str, list[Condition]]
    scenes: dict[str, str]
    failed: int

    def scores(self, row: str, protocol: str) -> dict[str, float]:
        """Score of every sample, averaged over the seeds of the row."""
        runs = self.runs[row]
        return {
            key: sum(score_of(self.kind, run[key].truth, run[key].answer, protocol) for run in runs) / len(runs)
            for key in self.scenes
        }


def kind_rows(records: Iterable[Record], conditions: Sequence[Condition], on_error: str) -> dict[str, list[KindRows]]:
    """Decisions by convention and, in the order of `KIND_ORDER`, by kind.

    Only samples decided under every condition count. Of samples with an unusable picture, `on_error` says whether they
    are wrong in every row (`count_wrong`) or in none (`skip_reported`).
    """
    groups: dict[str, dict[str, dict[str, dict[str, Record]]]] = {}
    for record in records:
        of_sample = groups.setdefault(record.convention, {}).setdefault(record.kind, {})
        of_sample.setdefault(record.sample, {})[record.condition] = record
    found: dict[str, list[KindRows]] = {}
    for convention, kinds in sorted(groups.items()):
        for kind in sorted(kinds, key=KIND_ORDER.index):
            whole = {key: runs for key, runs in kinds[kind].items() if all(c.id in runs for c in conditions)}
            failed = {key for key, runs in whole.items() if any(record.error for record in runs.values())}
            kept = {key: runs for key, runs in whole.items() if key not in failed or on_error != "skip_reported"}
            if kept:
                found.setdefault(convention, []).append(_rows(kind, kept, failed, conditions))
    return found


def _rows(
    kind: str, samples: Mapping[str, Mapping[str, Record]], failed: set[str], conditions: Sequence[Condition]
) -> KindRows:
    answered = {
        key: {name: replace(record, answer=None) for name, record in runs.items()} if key in failed else runs
        for key, runs in samples.items()
    }
    first = {key: runs[conditions[0].id] for key, runs in answered.items()}
    runs: dict[str, list[RUN]] = {}
    if (guesses := majority_answers(kind, [record.truth for record in first.values()])) is not None:
        pairs = zip(first.items(), guesses, strict=True)
        runs[MAJORITY] = [
            {key: replace(r, trace=None, answer=None if key in failed else guess) for (key, r), guess in pairs}
        ]
    of_row: dict[str, list[Condition]] = {MAJORITY: []}
    for condition in conditions:
        of_row.setdefault(condition.row, []).append(condition)
        runs.setdefault(condition.row, []).append({key: one[condition.id] for key, one in answered.items()})
    return KindRows(kind, runs, of_row, {key: record.scene for key, record in first.items()}, len(failed))


def score_kinds(
    records: Iterable[Record],
    samples: Iterable[PlanningSample],
    conditions: Sequence[Condition],
    scoring: ScoringConfig,
) -> list[dict[str, Any]]:
    """One group per convention, as plain JSON values: sample numbers by kind, and rows with an entry per kind.

    The retention ratio of a row is the mean over the kinds of its score divided by the unpruned model's: every kind
    counts the same, however many questions it has. Free text stays out of it, as chrF says little about meaning, and
    so does a kind that the unpruned model never answers rightly.

    Args:
        records: decisions of any kinds; they agree with conditions and samples.
        samples: the questions, which name the cameras of motions.
        conditions: of the run.
        scoring: protocol, treatment of unusable pictures, resamples.

    Raises:
        ConfigError: free text is to be scored and sacrebleu is not installed.
    """
    cameras = {sample.key: camera_of(sample) for sample in samples}
    groups = []
    for convention, parts in kind_rows(records, conditions, scoring.on_error).items():
        scenes = {scene for part in parts for scene in part.scenes.values()}
        scored = [_ScoredKind(part, scoring, scenes) for part in parts]
        names = dict.fromkeys(row for part in parts for row in part.runs)
        groups.append(
            {
                "convention": convention,
                "kinds": {
                    part.kind: {
                        "samples": len(part.scenes),
                        "scenes": len(set(part.scenes.values())),
                        "failed": part.failed,
                    }
                    for part in parts
                },
                "rows": [
                    {
                        **_names(row, parts[0].conditions[row]),
                        "kinds": {one.part.kind: one.entry(row, cameras) for one in scored if row in one.part.runs},
                        **_mean_ratio(row, scored),
                    }
                    for row in names
                ],
            }
        )
    return groups


class _ScoredKind:
    """One kind of question with the scores of every row and the resamples that all kinds share."""

    def __init__(self, part: KindRows, scoring: ScoringConfig, scenes: set[str]) -> None:
        self.part = part
        self.bootstrap = SceneBootstrap(part.scenes, scoring.resamples, scoring.seed, scenes)
        self.scores = {row: part.scores(row, scoring.protocol) for row in part.runs}
        self.means = {row: float(np.mean(list(scores.values()))) for row, scores in self.scores.items()}

    def entry(self, row: str, cameras: Mapping[str, str]) -> dict[str, Any]:
        """Everything about one row."""
        records = [record for run in self.part.runs[row] for record in run.values()]
        truths, answers = [r.truth for r in records], [r.answer for r in records]
        if self.part.kind == "motion":
            measures: Any = motion_metrics(truths, answers, [cameras.get(r.sample, NO_CAMERA) for r in records])
        else:
            measures = MEASURES[self.part.kind](truths, answers)
        own, full, below = self.scores[row], self.scores[UNPRUNED], self.means[UNPRUNED]
        return {
            "score": self.means[row],
            "score_interval": bounds(self.bootstrap.mean(own)),
            "ratio": self.means[row] / below if below else None,
            "ratio_interval": bounds(self.bootstrap.ratio(own, full)) if below else None,
            "unparsed": measures.unparsed,
            "measures": asdict(measures),
            "cost": _cost(records),
        }


def _mean_ratio(row: str, scored: Sequence[_ScoredKind]) -> dict[str, Any]:
    counted = [one for one in scored if one.part.kind not in FREE_TEXT and row in one.scores and one.means[UNPRUNED]]
    if not counted:
        return {"mean_ratio": None, "mean_ratio_interval": None, "mean_ratio_kinds": []}
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = np.mean(
            [
                one.bootstrap.resampled(one.scores[row]) / one.bootstrap.resampled(one.scores[UNPRUNED])
                for one in counted
            ],
            axis=0,
        )
    # A resample without a right unpruned answer has no ratio; an interval over the others would be too narrow.
    interval = (
        None if np.isinf(resampled).any() or np.isnan(resampled).any() else counted[0].bootstrap.percentiles(resampled)
    )
    return {
        "mean_ratio": float(np.mean([one.means[row] / one.means[UNPRUNED] for one in counted])),
        "mean_ratio_interval": bounds(interval),
        "mean_ratio_kinds": [one.part.kind for one in counted],
    }


def _names(row: str, conditions: Sequence[Condition]) -> dict[str, Any]:
    first = conditions[0] if conditions else None
    return {
        "row": row,
        "label": first.label if first else row,
        "method": first.method if first else row,
        "retention": first.retention if first else None,
    }


def _cost(records: Sequence[Record]) -> dict[str, Any] | None:
    """Visual tokens that enter a layer (mean over layers, spread of it between samples, in the middle and the last
    layer), and mutual information by quartiles. A method that adapts to a sample under a fixed budget keeps the mean
    and moves tokens between layers, so the middle and the last layer tell more."""
    traces = [record.trace for record in records if record.trace is not None]
    if not traces:
        return None
    known = [trace.complexity for trace in traces if trace.complexity is not None]
    tokens = [float(np.mean(trace.entering)) for trace in traces]
    return {
        "tokens_entering": float(np.mean(tokens)),
        "tokens_spread": float(np.std(tokens)),
        "tokens_after": float(np.mean([np.mean(trace.after) for trace in traces])),
        "tokens_middle": float(np.mean([trace.entering[len(trace.entering) // 2] for trace in traces])),
        "tokens_last": float(np.mean([trace.entering[-1] for trace in traces])),
        "complexity": [float(q) for q in np.quantile(known, [0, 0.25, 0.5, 0.75, 1])] if known else None,
    }


NO_CAMERA = "unnamed"
"""Camera of a motion question that does not say which view it is about."""


def camera_of(sample: PlanningSample) -> str:
    """The view that a question is about, e.g. `front left`, as its own words say it."""
    found = re.search(r"\bin the ([a-z ]{1,40}?) view image", sample.question)
    return found[1] if found else NO_CAMERA


def bounds(interval: Interval | None) -> list[float] | None:
    """An interval as a JSON value."""
    return [interval.low, interval.high] if interval else None
