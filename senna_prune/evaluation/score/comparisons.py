"""Which differences between rows of a table the data supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from senna_prune.errors import RunError
from senna_prune.evaluation.run.controls import control_of, measured_row
from senna_prune.evaluation.run.records import ORACLES, RANDOM, UNPRUNED, Condition
from senna_prune.evaluation.score.damage import MEASURES
from senna_prune.evaluation.score.decisions import Questions
from senna_prune.evaluation.score.statistics import (
    ALPHA,
    Scenes,
    aligned,
    detectable,
    difference_interval,
    holm,
    sign_flip,
)

BASELINES = ("fastervlm", "sparsevlm", "pyramiddrop")
"""Methods that the paper's Table 3 compares AutoPrune with."""

Pair = tuple[str, str, pd.Series, str, pd.Series]
"""What is compared, in a word; name and score by sample of one row, and of the other."""


def compare_rows(
    pairs: Sequence[Pair], scenes: Scenes, seeds: Mapping[str, int], retention: float | None = None
) -> list[dict[str, Any]]:
    """One family of paired comparisons, as plain JSON values: p of the sign-flip test by scenes, and Holm-adjusted
    within these pairs.

    Args:
        pairs: of rows of the same samples, also of two runs.
        scenes: by sample key.
        seeds: their number, by row.
        retention: of the pairs, None where it is not one.

    Returns:
        `difference` of the means with `difference_interval`; `detectable`: the smallest difference that the comparison
        could have found. `only_this`, `only_other`: samples that one has right and not the other, averaged over seeds.

    Raises:
        RunError: the rows are of different samples.
    """
    p_values = [sign_flip(first, second, scenes) for _, _, first, _, second in pairs]
    found = []
    for (kind, row, first, to, second), p, adjusted in zip(pairs, p_values, holm(p_values), strict=True):
        a, b = aligned(first, second)
        found.append(
            {
                **{"kind": kind, "retention": retention, "row": row, "to": to},
                "difference": float((a.sum() - b.sum()) / len(a)),
                "difference_interval": difference_interval(first, second, scenes),
                "detectable": detectable(first, second, scenes, max(seeds.get(row, 1), seeds.get(to, 1))),
                "only_this": round(float(np.maximum(a - b, 0).sum()), 6),
                "only_other": round(float(np.maximum(b - a, 0).sum()), 6),
                **{"p": p, "p_holm": adjusted, "supported": adjusted < ALPHA},
            }
        )
    return found


def seeds_of(conditions: Sequence[Condition]) -> dict[str, int]:
    """Number of seeds by row."""
    rows = [condition.row for condition in conditions]
    return {row: rows.count(row) for row in rows}


def compare(questions: Questions, conditions: Sequence[Condition]) -> dict[str, list[dict[str, Any]]]:
    """Every row against the unpruned model, and every method against random keeping at its own retention and kept
    positions; of one retention all together are one family. Renumbering the kept tokens can cost as much as losing
    them, so rows of different positions are never compared. A method whose schedule follows the sample is also compared
    with its controls of adaptation.

    Returns:
        Row -> its comparisons, where there are any; `kind` says what the other row is.
    """
    scores, firsts = questions.by_sample(), {c.row: c for c in reversed(conditions)}
    families: dict[float | None, list[Pair]] = {}
    for row in questions.rows:
        pairs = families.setdefault(firsts[row].retention if row in firsts else None, [])
        pairs += [(kind, row, scores[row], to, scores[to]) for kind, to in _opponents(row, firsts)]
    result: dict[str, list[dict[str, Any]]] = {}
    for retention, pairs in families.items():
        for entry in compare_rows(pairs, questions.scenes, seeds_of(conditions), retention):
            result.setdefault(entry["row"], []).append(entry)
    return result


def _opponents(row: str, firsts: Mapping[str, Condition]) -> list[tuple[str, str]]:
    """Kind and name of every row that a row is compared with."""
    opponents = [(UNPRUNED, UNPRUNED)] if row != UNPRUNED else []
    own = firsts.get(row)
    if own is None or own.method == RANDOM or own.positions is None:
        return opponents
    order = list(firsts.items())[::-1]
    traits = (own.retention, own.positions)
    alike = [name for name, c in order if c.is_random_control and (c.retention, c.positions) == traits]
    opponents += [(RANDOM, name) for name in alike[:1]]
    controls = [(control_of(c), name) for name, c in order if control_of(c) and measured_row(c, [own])]
    return opponents + [(str(control), name) for control, name in controls]


def best_and_baselines(questions: Questions, conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    """At every retention the best row against every other, and AutoPrune against each baseline of the paper's Table 3,
    each method at its own kept positions; controls of adaptation stay out, and oracles, which read annotations.

    The best one was picked from the same data, so its own lead is flattering; Holm's adjustment within the family (one
    retention and purpose) covers every pair of it.
    """
    scores, found = questions.by_sample(), []
    budgeted = (c for c in conditions if c.retention is not None and c.method not in ORACLES)
    firsts = {c.row: c for c in budgeted if not control_of(c)}
    for retention in sorted({c.retention for c in firsts.values() if c.retention is not None}):
        rows = [row for row, condition in firsts.items() if condition.retention == retention]
        best = max(rows, key=lambda row: float(scores[row].mean()))
        ours = [row for row in rows if firsts[row].label == "autoprune"]
        theirs = [row for row in rows if firsts[row].label in BASELINES]
        for purpose, mine, others in (("best", [best], rows), ("table 3", ours, theirs)):
            pairs: list[Pair] = [
                (purpose, one, scores[one], row, scores[row]) for one in mine for row in others if row != one
            ]
            found += compare_rows(pairs, questions.scenes, seeds_of(conditions), retention)
    return found


def against(mine: Questions, row: str | None, other: Questions | None) -> list[dict[str, Any]]:
    """Every row against one row, of this run or of another (`other`); without a row, against the other run's row of the
    same name.

    Raises:
        RunError: there is no such row, or the other run is of other samples.
    """
    scores = mine.by_sample()
    theirs = scores if other is None else other.by_sample()
    if (row is not None and row not in theirs) or not set(scores) & set(theirs):
        raise RunError(f"no row {row!r} to compare with", hint=f"rows are: {', '.join(theirs)}")
    of_run = "" if other is None else " of the baseline"
    names = {name: row or name for name in scores if (row or name) in theirs}
    pairs = [("asked", n, scores[n], f"{to}{of_run}", theirs[to]) for n, to in names.items() if of_run or n != to]
    return compare_rows(pairs, mine.scenes, mine.table.groupby("row")["seed"].nunique().to_dict())


def first_told(questions: Questions, conditions: Sequence[Condition]) -> dict[str, dict[str, float | None]]:
    """For every method and measure the largest retention at which it differs from the unpruned model, None where none.

    Sign-flip test by scenes, Holm-adjusted within one retention and measure.
    """
    firsts = {c.row: c for c in conditions if c.retention is not None and not control_of(c)}
    told: dict[str, dict[str, float | None]] = {c.label: {} for c in firsts.values()}
    for measure in ("score", "agrees", *MEASURES):
        values = questions.by_sample(measure)
        if values[UNPRUNED].isna().any() or (measure == "score" and not questions.labelled):
            continue
        for retention in sorted({c.retention for c in firsts.values() if c.retention is not None}):
            rows = [row for row, c in firsts.items() if c.retention == retention and not values[row].isna().any()]
            p_values = [sign_flip(values[row], values[UNPRUNED], questions.scenes) for row in rows]
            for row, p in zip(rows, holm(p_values), strict=True):
                of_label = told[firsts[row].label]
                of_label[measure] = retention if p < ALPHA else of_label.get(measure)
    return told
