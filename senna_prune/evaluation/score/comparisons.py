"""Which differences between rows of a table the data supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from senna_prune.errors import RunError
from senna_prune.evaluation.run.controls import control_of, measured_row
from senna_prune.evaluation.run.records import RANDOM, UNPRUNED, Condition
from senna_prune.evaluation.score.decisions import Questions
from senna_prune.evaluation.score.statistics import ALPHA, SceneBootstrap, detectable, holm, mcnemar, sign_flip

BASELINES = ("fastervlm", "sparsevlm", "pyramiddrop")
"""Methods that the paper's Table 3 compares AutoPrune with."""


def compare(
    questions: Questions, conditions: Mapping[str, Sequence[Condition]], bootstrap: SceneBootstrap
) -> dict[str, list[dict[str, Any]]]:
    """Every row against the unpruned model, and every method against random keeping at its own retention and kept
    positions: one family. Renumbering the kept tokens can cost as much as losing them, so rows of different positions
    are never compared; the accounting is one for all rows of a run. A method whose schedule follows the sample is also
    compared with its controls of adaptation.

    A difference counts as supported if its Holm-adjusted exact p-value is below 5 % *and* its scene-clustered interval
    leaves out 0: McNemar's test alone takes frames of one scene for independent. A row with several seeds is compared
    seed by seed and the least favourable p-value stands.

    Args:
        questions: all decisions about one kind of question.
        conditions: row -> its conditions, one per seed.
        bootstrap: over the same samples.

    Returns:
        Row -> comparisons as plain JSON values, where there are any; `kind` says what the other row is, `detectable`
        the smallest difference that the comparison could have detected.
    """
    scores = questions.by_sample()
    runs = {row: [run for _, run in lines.groupby("seed")] for row, lines in questions.table.groupby("row")}
    outcomes = {row: [run.set_index("sample")["score"] for run in given] for row, given in runs.items()}
    pairs = [(row, *opponent) for row in questions.rows for opponent in _opponents(row, conditions)]
    tests = [
        max((mcnemar(a, b) for a in outcomes[row] for b in outcomes[other]), key=lambda test: test.p)
        for row, _, other in pairs
    ]
    result: dict[str, list[dict[str, Any]]] = {}
    for (row, kind, other), test, adjusted in zip(pairs, tests, holm([test.p for test in tests]), strict=True):
        first, second = scores[row], scores[other]
        interval = bootstrap.difference(first, second)
        supported = adjusted < ALPHA and interval is not None and not interval[0] <= 0 <= interval[1]
        result.setdefault(row, []).append(
            {
                "to": other,
                "kind": kind,
                "difference": float((first.sum() - second.sum()) / len(first)),
                "difference_interval": interval,
                "detectable": detectable(first, second, questions.scenes),
                "only_this": test.only_first,
                "only_other": test.only_second,
                "p": test.p,
                "p_holm": adjusted,
                "supported": supported,
            }
        )
    return result


def best_and_baselines(
    questions: Questions, conditions: Sequence[Condition], bootstrap: SceneBootstrap
) -> list[dict[str, Any]]:
    """At every retention the best row against every other, and AutoPrune against each baseline of the paper's Table 3,
    each method at its own kept positions; controls of adaptation stay out.

    The best one was picked from the same data, so its own lead is flattering; Holm's adjustment within the family (one
    retention and purpose) covers every pair of it.
    """
    scores, found = questions.by_sample(), []
    firsts = {c.row: c for c in conditions if c.retention is not None and not control_of(c)}
    for retention in sorted({c.retention for c in firsts.values() if c.retention is not None}):
        rows = [row for row, condition in firsts.items() if condition.retention == retention]
        best = max(rows, key=lambda row: float(scores[row].mean()))
        found += compare_rows(
            "best",
            [(best, scores[best], row, scores[row]) for row in rows if row != best],
            questions,
            bootstrap,
            retention,
        )
        ours = [row for row in rows if firsts[row].label == "autoprune"]
        pairs = [(one, scores[one], row, scores[row]) for one in ours for row in rows if firsts[row].label in BASELINES]
        found += compare_rows("table 3", pairs, questions, bootstrap, retention)
    return found


def against(
    mine: Questions, row: str | None, other: Questions | None, bootstrap: SceneBootstrap
) -> list[dict[str, Any]]:
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
    pairs = [(name, scores[name], f"{to}{of_run}", theirs[to]) for name, to in names.items() if of_run or name != to]
    return compare_rows("asked", pairs, mine, bootstrap)


def compare_rows(
    purpose: str,
    pairs: Sequence[tuple[str, pd.Series, str, pd.Series]],
    questions: Questions,
    bootstrap: SceneBootstrap,
    retention: float | None = None,
) -> list[dict[str, Any]]:
    """Any rows of the same samples, also of two runs: paired difference, interval, p of the sign-flip test by scenes,
    and p adjusted by Holm within these pairs.

    Args:
        purpose: in a word.
        pairs: name and score by sample of one row, and of the other.
        questions: whose samples and scenes these are.
        bootstrap: over the same samples.
        retention: of the pairs, None where it is not one.

    Raises:
        RunError: the rows are of different samples.
    """
    p_values = [sign_flip(first, second, questions.scenes) for _, first, _, second in pairs]
    return [
        {
            "purpose": purpose,
            "retention": retention,
            "row": row,
            "to": other,
            "difference": float(first.mean() - second.mean()),
            "difference_interval": bootstrap.difference(first, second),
            "detectable": detectable(first, second, questions.scenes),
            "p": p,
            "p_holm": adjusted,
            "supported": adjusted < ALPHA,
        }
        for (row, first, other, second), p, adjusted in zip(pairs, p_values, holm(p_values), strict=True)
    ]


def _opponents(row: str, conditions: Mapping[str, Sequence[Condition]]) -> list[tuple[str, str]]:
    """Kind and name of every row that a row is compared with."""
    opponents = [(UNPRUNED, UNPRUNED)] if row != UNPRUNED else []
    own = next(iter(conditions[row]), None)
    if own is None or own.method == RANDOM or own.positions is None:
        return opponents
    firsts = {name: members[0] for name, members in conditions.items() if members}
    alike = [
        name
        for name, other in firsts.items()
        if other.is_random_control and (other.retention, other.positions) == (own.retention, own.positions)
    ]
    opponents += [(RANDOM, name) for name in alike[:1]]
    for name, other in firsts.items():
        control = control_of(other)
        if control is not None and measured_row(other, [own]):
            opponents.append((control, name))
    return opponents
