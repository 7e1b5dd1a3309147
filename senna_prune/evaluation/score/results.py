"""All scores of a run from its decisions: the planning table, scores by kind of question, and by circumstances."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from senna_prune.config import ScoringConfig
from senna_prune.evaluation.run.records import MAJORITY, SCHEMA_VERSION, UNPRUNED, Condition, Record
from senna_prune.evaluation.run.run_folder import RunInfo
from senna_prune.evaluation.score.adaptation import adaptation
from senna_prune.evaluation.score.breakdowns import breakdowns
from senna_prune.evaluation.score.comparisons import best_and_baselines, compare, first_told
from senna_prune.evaluation.score.damage import damage_of
from senna_prune.evaluation.score.decisions import Questions, questions_of
from senna_prune.evaluation.score.metrics import HALVES, MEASURES
from senna_prune.evaluation.score.nuscenes_val import in_nuscenes_val
from senna_prune.evaluation.score.reference_metric import reference_score
from senna_prune.evaluation.score.statistics import (
    SceneBootstrap,
    interval_around,
    ratio_errors,
    share_interval,
    wilson,
)
from senna_prune.evaluation.score.text_metrics import FREE_TEXT
from senna_prune.task.labels import PLAN
from senna_prune.task.sample import PlanningSample

LABELLED = (
    *("accuracy", "accuracy_interval", "accuracy_wilson", "accuracy_by_seed", "parsed_accuracy", "reference"),
    *("speed_accuracy", "path_accuracy", "balanced_accuracy", "classes", "speed_confusion", "path_confusion"),
    *("error_cost", "error_cost_interval"),
)
"""What a row of plans says only where true plans are known."""
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
    cameras = {sample.key: camera_of(sample) for sample in samples}
    scored = [(one, _entries(one, cameras, info.conditions)) for one in questions]
    results: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "status": "complete" if complete else "partial",
        "protocol": scoring.protocol,
        "on_error": scoring.on_error,
        "groups": [_plans(one, rows, info.conditions, scoring) for one, rows in scored if one.kind == PLAN],
    }
    if {sample.kind for sample in samples} - {PLAN} or {one.kind for one in questions} != {PLAN}:
        conventions = dict.fromkeys(one.convention for one in questions)
        results["kinds"] = [
            _kinds(name, [(one, rows) for one, rows in scored if one.convention == name], info.conditions)
            for name in conventions
        ]
    results["breakdowns"] = [entry for one in questions for entry in breakdowns(one, samples, info.conditions)]
    return results


Entry = dict[str, Any]


def _entries(part: Questions, cameras: Mapping[str, str], conditions: Sequence[Condition]) -> dict[str, Entry]:
    """Row -> its score, ratio to the unpruned model, measures, cost and comparisons."""
    scores, compared = part.by_sample(), compare(part, conditions)
    full, found = scores[UNPRUNED], {}
    below = float(full.mean())
    for name, lines in part.table.groupby("row", sort=False):
        row, own = str(name), scores[name]
        given: list[Any] = [list(lines["truth"]), list(lines["answer"])]
        if part.kind == "motion":
            given.append([cameras.get(key, NO_CAMERA) for key in lines["sample"]])
        ratio = float(own.sum() / full.sum()) if part.labelled and below else None
        bounds = None
        if ratio is not None and row != UNPRUNED:
            bounds = interval_around(ratio, ratio_errors(own, full, part.scenes).to_numpy(), 1 / below / len(own))
        measures = MEASURES[part.kind](*given) if part.labelled else {}
        found[row] = {
            "score": float(own.sum() / len(own)),
            "score_interval": share_interval(own, part.scenes),
            "ratio": ratio,
            "ratio_interval": bounds,
            "agreement": None if lines["agrees"].isna().any() else float(lines["agrees"].mean()),
            "unparsed": measures.get("unparsed"),
            "measures": measures,
            "cost": _cost(lines),
            "comparisons": compared.get(row, []),
        }
    return found


def _plans(
    plans: Questions, entries: Mapping[str, Entry], conditions: Sequence[Condition], scoring: ScoringConfig
) -> dict[str, Any]:
    """One of `results["groups"]`: what `_entries` says of every row, and halves, damage, adaptation."""
    scenes, rows = plans.scenes, []
    halves = {half: plans.by_sample(half) for half in HALVES}
    prices = plans.by_sample("error_cost")
    bootstrap = SceneBootstrap(scenes, scoring.resamples, scoring.seed)
    for name, lines in plans.table.groupby("row", sort=False):
        row, entry = str(name), entries[str(name)]
        members = [condition for condition in conditions if condition.row == row]
        first = members[0] if members else None
        told: dict[str, Any] = dict.fromkeys((*LABELLED, *(f"{half}_interval" for half in HALVES)))
        if plans.labelled:
            reference = reference_score(zip(lines["truth"], lines["answer"].fillna(""), strict=True))
            told = {
                **entry["measures"],
                "accuracy": entry["score"],
                "accuracy_interval": entry["score_interval"],
                # Over the samples, not over samples times seeds: more seeds are not more samples.
                "accuracy_wilson": wilson(round(entry["score"] * len(scenes)), len(scenes)),
                "accuracy_by_seed": lines.groupby("seed")["score"].mean().tolist(),
                "parsed_accuracy": entry["measures"]["accuracy"],
                "reference": {name: reference[name] for name in REFERENCE},
                **{f"{half}_interval": share_interval(halves[half][row], scenes) for half in HALVES},
                "error_cost": float(prices[row].mean()),
                "error_cost_interval": bootstrap.mean(prices[row]),
            }
        rows.append(
            {
                **_names(row, first),
                "positions": first.positions if first else None,
                "seeds": [c.seed for c in members if c.seed is not None] or None,
                **told,
                **{name: value for name, value in entry.items() if name != "measures"},
                "distribution": damage_of(lines, scenes, scoring.resamples, scoring.seed),
                "adaptation": adaptation(first, [t for t in lines["trace"] if t]) if first else None,
            }
        )
    return {
        "convention": plans.convention,
        "labelled": plans.labelled,
        "samples": len(scenes),
        "scenes": scenes.nunique(),
        "nuscenes_val": all(map(in_nuscenes_val, scenes)),
        "failed": plans.failed,
        "first_failure": plans.first_failure,
        "rows": rows,
        "pairs": best_and_baselines(plans, conditions),
        "told_from_unpruned": first_told(plans, conditions),
    }


def _kinds(
    convention: str, parts: Sequence[tuple[Questions, Mapping[str, Entry]]], conditions: Sequence[Condition]
) -> dict[str, Any]:
    """One of `results["kinds"]`: sample numbers by kind, and rows with an entry per kind.

    The retention ratio of a row is the mean over the kinds of its score divided by the unpruned model's (Table 3's
    heading): every kind counts the same, however many questions it has. Free text stays out of it, as chrF says little
    about meaning, and so does a kind that the unpruned model never answers rightly.
    """
    firsts = {condition.row: condition for condition in reversed(conditions)}
    shown = dict.fromkeys(row for _, entries in parts for row in entries)
    rows = []
    for row in shown:
        kinds = {part.kind: entries[row] for part, entries in parts if row in entries}
        rows.append({**_names(row, firsts.get(row)), "kinds": kinds, **_mean_ratio(row, [p for p, _ in parts], kinds)})
    return {
        "convention": convention,
        "kinds": {
            part.kind: {"samples": len(part.scenes), "scenes": part.scenes.nunique(), "failed": part.failed}
            for part, _ in parts
        },
        "rows": rows,
    }


def _mean_ratio(row: str, parts: Sequence[Questions], kinds: Mapping[str, Entry]) -> dict[str, Any]:
    counted = [p for p in parts if p.kind in kinds and p.kind not in FREE_TEXT and kinds[p.kind]["ratio"] is not None]
    mean, interval = None, None
    if counted:
        mean = float(np.mean([kinds[part.kind]["ratio"] for part in counted]))
        given = [ratio_errors(s[row], s[UNPRUNED], p.scenes) for p in counted for s in (p.by_sample(),)]
        errors = pd.concat(given, axis=1).fillna(0.0).mean(axis=1).to_numpy()
        if row != UNPRUNED:
            interval = interval_around(mean, errors, 1 / sum(len(part.scenes) for part in counted))
    return {"mean_ratio": mean, "mean_ratio_interval": interval, "mean_ratio_kinds": [p.kind for p in counted]}


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
