"""All scores of a run from its decisions: the planning table, scores by kind of question, and by circumstances."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from senna_prune.config import ScoringConfig
from senna_prune.evaluation.run.records import MAJORITY, SCHEMA_VERSION, UNPRUNED, Condition, Record
from senna_prune.evaluation.run.run_folder import RunInfo
from senna_prune.evaluation.score.adaptation import adaptation
from senna_prune.evaluation.score.comparisons import best_and_baselines, compare
from senna_prune.evaluation.score.decisions import Questions, questions_of
from senna_prune.evaluation.score.distributions import distribution_scores
from senna_prune.evaluation.score.metrics import MEASURES, planning_metrics, read_plan
from senna_prune.evaluation.score.nuscenes_val import in_nuscenes_val
from senna_prune.evaluation.score.reference_metric import reference_score
from senna_prune.evaluation.score.statistics import Bounds, SceneBootstrap, wilson
from senna_prune.evaluation.score.text_metrics import FREE_TEXT
from senna_prune.task.labels import PLAN
from senna_prune.task.sample import PlanningSample

REFERENCE = ("total", "correct", "accuracy_percent", "f1", "summary")
"""Of the released script's counts, those that are kept."""


def all_scores(
    records: Sequence[Record], samples: Sequence[PlanningSample], info: RunInfo, scoring: ScoringConfig, complete: bool
) -> dict[str, Any]:
    """`results.json` as plain JSON values: `groups` of plans, `kinds` where other questions were asked too, and
    `breakdowns`; one group per convention.

    Args:
        records: all decisions.
        samples: the questions they are about.
        info: conditions and model shape.
        scoring: may differ from the run's own.
        complete: every decision is made.

    Raises:
        RunError: nothing is decided under every condition, or a decision contradicts the run.
        ConfigError: free text is to be scored and sacrebleu is not installed.
    """
    return results_of(questions_of(records, info.conditions, info.shape, scoring), samples, info, scoring, complete)


def results_of(
    questions: Sequence[Questions],
    samples: Sequence[PlanningSample],
    info: RunInfo,
    scoring: ScoringConfig,
    complete: bool,
) -> dict[str, Any]:
    """The same from decisions that `questions_of` has read."""
    results: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "status": "complete" if complete else "partial",
        "protocol": scoring.protocol,
        "on_error": scoring.on_error,
        "groups": [_plans(one, info.conditions, scoring) for one in questions if one.kind == PLAN],
    }
    if {sample.kind for sample in samples} - {PLAN} or {one.kind for one in questions} != {PLAN}:
        conventions = dict.fromkeys(one.convention for one in questions)
        results["kinds"] = [
            _kinds(name, [one for one in questions if one.convention == name], samples, info.conditions, scoring)
            for name in conventions
        ]
    results["breakdowns"] = [entry for one in questions for entry in _breakdowns(one, samples, scoring)]
    return results


def _plans(plans: Questions, conditions: Sequence[Condition], scoring: ScoringConfig) -> dict[str, Any]:
    """One of `results["groups"]`: every row's accuracy, ratio, classes, cost, adaptation and comparisons."""
    table, scenes = plans.table, plans.scenes
    bootstrap = SceneBootstrap(scenes, scoring.resamples, scoring.seed)
    damage = distribution_scores(table, scenes, scoring.resamples, scoring.seed)
    of_row = {row: [c for c in conditions if c.row == row] for row in plans.rows}
    compared = compare(plans, of_row, bootstrap)
    true, given = (pd.Series(map(read_plan, table[name]), index=table.index) for name in ("truth", "answer"))
    halves = [plans.by_sample(true.str[half] == given.str[half]) for half in (0, 1)]
    scores, rows = plans.by_sample(), []
    for name, lines in table.groupby("row", sort=False):
        row, members = str(name), of_row[str(name)]
        own, full = scores[row], scores[UNPRUNED]
        accuracy, below = float(own.sum() / len(own)), float(full.sum() / len(full))
        truths, answers = list(lines["truth"]), list(lines["answer"])
        reference = reference_score((truth, answer or "") for truth, answer in zip(truths, answers, strict=True))
        metrics = planning_metrics(truths, answers)
        first = members[0] if members else None
        rows.append(
            {
                **_names(row, first),
                "positions": first.positions if first else None,
                "seeds": [c.seed for c in members if c.seed is not None] or None,
                "accuracy": accuracy,
                "accuracy_interval": bootstrap.mean(own),
                # Over the samples, not over samples times seeds: more seeds are not more samples.
                "accuracy_wilson": wilson(round(accuracy * len(own)), len(own)),
                "speed_interval": bootstrap.mean(halves[0][row]),
                "path_interval": bootstrap.mean(halves[1][row]),
                "accuracy_by_seed": lines.groupby("seed")["score"].mean().tolist(),
                "ratio": accuracy / below if below else None,
                "ratio_interval": bootstrap.ratio(own, full),
                "agreement": float(lines["agrees"].mean()) if members else None,
                "parsed_accuracy": metrics.pop("accuracy"),
                **metrics,
                "reference": {name: reference[name] for name in REFERENCE},
                "distribution": damage.get(row),
                "cost": _cost(lines),
                "adaptation": adaptation(first, [t for t in lines["trace"] if t]) if first else None,
                "comparisons": compared.get(row, []),
            }
        )
    return {
        "convention": plans.convention,
        "samples": len(scenes),
        "scenes": scenes.nunique(),
        "nuscenes_val": all(map(in_nuscenes_val, scenes)),
        "failed": plans.failed,
        "first_failure": plans.first_failure,
        "rows": rows,
        "pairs": best_and_baselines(plans, conditions, bootstrap),
    }


def _kinds(
    convention: str,
    parts: Sequence[Questions],
    samples: Sequence[PlanningSample],
    conditions: Sequence[Condition],
    scoring: ScoringConfig,
) -> dict[str, Any]:
    """One of `results["kinds"]`: sample numbers by kind, and rows with an entry per kind.

    The retention ratio of a row is the mean over the kinds of its score divided by the unpruned model's (Table 3's
    heading): every kind counts the same, however many questions it has. Free text stays out of it, as chrF says little
    about meaning, and so does a kind that the unpruned model never answers rightly.
    """
    cameras = {sample.key: camera_of(sample) for sample in samples}
    scenes = {scene for part in parts for scene in part.scenes}
    scores = {part.kind: part.by_sample() for part in parts}
    resamples = {p.kind: SceneBootstrap(p.scenes, scoring.resamples, scoring.seed, scenes) for p in parts}
    rows: dict[str, dict[str, Any]] = {}
    for part in parts:
        bootstrap, of_kind = resamples[part.kind], scores[part.kind]
        full = of_kind[UNPRUNED]
        for name, lines in part.table.groupby("row", sort=False):
            truths, answers = list(lines["truth"]), list(lines["answer"])
            seen = [cameras.get(key, NO_CAMERA) for key in lines["sample"]]
            given = (truths, answers, seen) if part.kind == "motion" else (truths, answers)
            measures = MEASURES[part.kind](*given)
            own, below = of_kind[name], float(full.mean())
            rows.setdefault(str(name), {})[part.kind] = {
                "score": float(own.mean()),
                "score_interval": bootstrap.mean(own),
                "ratio": float(own.mean()) / below if below else None,
                "ratio_interval": bootstrap.ratio(own, full) if below else None,
                "unparsed": measures["unparsed"],
                "measures": measures,
                "cost": _cost(lines),
            }
    firsts = {condition.row: condition for condition in reversed(conditions)}
    return {
        "convention": convention,
        "kinds": {
            part.kind: {"samples": len(part.scenes), "scenes": part.scenes.nunique(), "failed": part.failed}
            for part in parts
        },
        "rows": [
            {**_names(row, firsts.get(row)), "kinds": kinds, **_mean_ratio(row, kinds, scores, resamples)}
            for row, kinds in rows.items()
        ],
    }


def _mean_ratio(
    row: str, kinds: dict[str, Any], scores: dict[str, pd.DataFrame], resamples: dict[str, SceneBootstrap]
) -> dict[str, Any]:
    counted = [kind for kind, entry in kinds.items() if kind not in FREE_TEXT and entry["ratio"] is not None]
    if not counted:
        return {"mean_ratio": None, "mean_ratio_interval": None, "mean_ratio_kinds": []}
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = [
            resamples[kind].resampled(scores[kind][row]) / resamples[kind].resampled(scores[kind][UNPRUNED])
            for kind in counted
        ]
        mean = np.mean(drawn, axis=0)
    # A resample without a right unpruned answer has no ratio; an interval over the others would be too narrow.
    interval: Bounds = resamples[counted[0]].percentiles(mean) if np.isfinite(mean).all() else None
    ratio = float(np.mean([kinds[kind]["ratio"] for kind in counted]))
    return {"mean_ratio": ratio, "mean_ratio_interval": interval, "mean_ratio_kinds": counted}


def _names(row: str, first: Condition | None) -> dict[str, Any]:
    """What a row is called; `majority` has no condition."""
    named = first or Condition(MAJORITY, MAJORITY)
    return {"row": row, "label": named.label, "method": named.method, "retention": named.retention}


def _cost(lines: pd.DataFrame) -> dict[str, Any] | None:
    """Means over the decisions of a row, from their traces: tokens, FLOPs by stage, bytes of the cache.

    `tokens_spread` is between decisions. A method that adapts to a sample under a fixed budget keeps the mean over the
    layers and moves tokens between them, so the middle and the last layer tell more. `complexity`: its quartiles.
    """
    traced = lines[lines["tokens_entering"].notna()]
    if traced.empty:
        return None
    means = traced.select_dtypes("number").mean()
    known = traced["complexity"].dropna()
    return {
        **{name: float(means[name]) for name in means.index if str(name).startswith(("tokens_", "kv_"))},
        "tokens_spread": float(traced["tokens_entering"].std(ddof=0)),
        "flops": {str(n).removeprefix("flops_"): float(means[n]) for n in means.index if str(n).startswith("flops_")},
        "complexity": known.quantile([0, 0.25, 0.5, 0.75, 1]).tolist() or None if len(known) else None,
    }


NO_CAMERA = "unnamed"
"""Camera of a motion question that does not say which view it is about."""


def camera_of(sample: PlanningSample) -> str:
    """The view that a question is about, e.g. `front left`, as its own words say it."""
    found = re.search(r"\bin the ([a-z ]{1,40}?) view image", sample.question)
    return found[1] if found else NO_CAMERA


# By circumstances -----------------------------------------------------------------------------------------------------

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


def _breakdowns(part: Questions, samples: Sequence[PlanningSample], scoring: ScoringConfig) -> list[dict[str, Any]]:
    """One entry per facet and value with the score of every row. A facet of one value alone is left out: it says what
    the whole table says."""
    scores, found = part.by_sample(), []
    known = [sample for sample in samples if sample.key in scores.index]
    for facet, value_of in FACETS.items():
        values: dict[str, list[str]] = {}
        for sample in known:
            if (value := value_of(sample)) is not None:
                values.setdefault(value, []).append(sample.key)
        for value in sorted(values, key=_natural) if len(values) > 1 else ():
            own, scenes = scores.loc[values[value]], part.scenes[values[value]]
            bootstrap = SceneBootstrap(scenes, scoring.resamples, scoring.seed)
            rows = {row: {"score": float(own[row].mean()), "score_interval": bootstrap.mean(own[row])} for row in own}
            entry = {"convention": part.convention, "kind": part.kind, "facet": facet, "value": value}
            found.append(entry | {"samples": len(own), "scenes": scenes.nunique(), "rows": rows})
    return found


def _natural(value: str) -> tuple[float, str]:
    """Speed bins by their speeds, all else by its letters."""
    number = re.search(r"\d+", value)
    return (float(number[0]) if number and value.endswith("m/s") else 0.0, value)
