"""Which differences between rows of a table the data supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from senna_prune.evaluation.run.controls import control_of, measured_row
from senna_prune.evaluation.run.records import RANDOM, UNPRUNED, Condition
from senna_prune.evaluation.score.decisions import Questions
from senna_prune.evaluation.score.statistics import ALPHA, SceneBootstrap, detectable, holm, mcnemar


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
