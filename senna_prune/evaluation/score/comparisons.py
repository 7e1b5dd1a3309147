"""Which differences between rows of a table the data supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from senna_prune.evaluation.run.records import RANDOM, UNPRUNED, Condition
from senna_prune.evaluation.score.statistics import ALPHA, McNemar, SceneBootstrap, holm, mcnemar, mean_outcome


def compare(
    outcomes: Mapping[str, Sequence[Mapping[str, bool]]],
    conditions: Mapping[str, Sequence[Condition]],
    bootstrap: SceneBootstrap,
) -> dict[str, list[dict[str, Any]]]:
    """Every row against the unpruned model and every method against random keeping at its retention: one family.

    A difference counts as supported if its Holm-adjusted exact p-value is below 5 % *and* its scene-clustered interval
    leaves out 0: McNemar's test alone takes frames of one scene for independent. A row with several seeds is compared
    seed by seed and the least favourable p-value stands.

    Args:
        outcomes: row -> per seed, sample key -> correct.
        conditions: row -> its conditions, one per seed.
        bootstrap: over the same samples.

    Returns:
        Row -> comparisons as plain JSON values, where there are any.
    """
    pairs = [(row, other) for row in outcomes for other in _opponents(row, conditions, outcomes)]
    tests = [_least_favourable(outcomes[row], outcomes[other]) for row, other in pairs]
    result: dict[str, list[dict[str, Any]]] = {}
    for (row, other), test, adjusted in zip(pairs, tests, holm([test.p for test in tests]), strict=True):
        first, second = mean_outcome(outcomes[row]), mean_outcome(outcomes[other])
        interval = bootstrap.difference(first, second)
        supported = adjusted < ALPHA and interval is not None and not interval.low <= 0 <= interval.high
        result.setdefault(row, []).append(
            {
                "to": other,
                "difference": (sum(first.values()) - sum(second.values())) / len(first),
                "difference_interval": [interval.low, interval.high] if interval else None,
                "only_this": test.only_first,
                "only_other": test.only_second,
                "p": test.p,
                "p_holm": adjusted,
                "supported": supported,
            }
        )
    return result


def _opponents(row: str, conditions: Mapping[str, Sequence[Condition]], outcomes: Mapping[str, Any]) -> list[str]:
    opponents = [UNPRUNED] if row != UNPRUNED else []
    own = conditions[row]
    if own and own[0].retention is not None and own[0].method != RANDOM:
        opponents += [
            name
            for name in outcomes
            if (other := conditions[name]) and other[0].label == RANDOM and other[0].retention == own[0].retention
        ]
    return opponents


def _least_favourable(first: Sequence[Mapping[str, bool]], second: Sequence[Mapping[str, bool]]) -> McNemar:
    return max((mcnemar(a, b) for a in first for b in second), key=lambda test: test.p)
