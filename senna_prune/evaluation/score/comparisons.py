"""Which differences between rows of a table the data supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from senna_prune.evaluation.run.borrowed import control_of, lender_of
from senna_prune.evaluation.run.records import RANDOM, UNPRUNED, Condition
from senna_prune.evaluation.score.power import detectable
from senna_prune.evaluation.score.statistics import ALPHA, McNemar, SceneBootstrap, holm, mcnemar, mean_outcome


def compare(
    outcomes: Mapping[str, Sequence[Mapping[str, bool]]],
    conditions: Mapping[str, Sequence[Condition]],
    bootstrap: SceneBootstrap,
    scenes: Mapping[str, str],
) -> dict[str, list[dict[str, Any]]]:
    """Every row against the unpruned model, and every method against random keeping at its own retention and kept
    positions: one family. Renumbering the kept tokens can cost as much as losing them, so rows of different positions
    are never compared; the accounting is one for all rows of a run. A method whose schedule follows the sample is also
    compared with its controls of adaptation.

    A difference counts as supported if its Holm-adjusted exact p-value is below 5 % *and* its scene-clustered interval
    leaves out 0: McNemar's test alone takes frames of one scene for independent. A row with several seeds is compared
    seed by seed and the least favourable p-value stands.

    Args:
        outcomes: row -> per seed, sample key -> correct.
        conditions: row -> its conditions, one per seed.
        bootstrap: over the same samples.
        scenes: scene of each sample key.

    Returns:
        Row -> comparisons as plain JSON values, where there are any; `kind` says what the other row is, `detectable`
        the smallest difference that the comparison could have detected.
    """
    pairs = [(row, *opponent) for row in outcomes for opponent in _opponents(row, conditions)]
    tests = [_least_favourable(outcomes[row], outcomes[other]) for row, _, other in pairs]
    result: dict[str, list[dict[str, Any]]] = {}
    for (row, kind, other), test, adjusted in zip(pairs, tests, holm([test.p for test in tests]), strict=True):
        first, second = mean_outcome(outcomes[row]), mean_outcome(outcomes[other])
        interval = bootstrap.difference(first, second)
        supported = adjusted < ALPHA and interval is not None and not interval.low <= 0 <= interval.high
        result.setdefault(row, []).append(
            {
                "to": other,
                "kind": kind,
                "difference": (sum(first.values()) - sum(second.values())) / len(first),
                "difference_interval": [interval.low, interval.high] if interval else None,
                "detectable": detectable(first, second, scenes),
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
        if control is not None and lender_of(other, [own]):
            opponents.append((control, name))
    return opponents


def _least_favourable(first: Sequence[Mapping[str, bool]], second: Sequence[Mapping[str, bool]]) -> McNemar:
    return max((mcnemar(a, b) for a in first for b in second), key=lambda test: test.p)
