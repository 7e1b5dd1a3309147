"""Complexities of the controls of adaptation, which take what other samples measured: all the same, nothing adapted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from senna_prune.errors import ConfigError
from senna_prune.evaluation.run.records import Condition, Record, rounded
from senna_prune.task.sample import PlanningSample

BORROWING = ("shuffled", "static")
"""Indicators of AutoPrune that measure nothing: another sample's complexity, or the mean over the samples."""
MEASURED = "mutual_information"

Borrowed = dict[tuple[str, str], float]
"""Complexity by (sample key, condition id)."""


def control_of(condition: Condition) -> str | None:
    """Which of `BORROWING` a condition is, None where it is none."""
    indicator = condition.resolved.get("indicator")
    return indicator if indicator in BORROWING else None


def borrows(condition: Condition) -> bool:
    """Whether a condition's complexities come from another condition of the run."""
    return control_of(condition) is not None and condition.resolved.get("assumed") is None


def lender_of(condition: Condition, conditions: Iterable[Condition]) -> Condition | None:
    """The condition that differs from a control in nothing but that it measures mutual information."""
    return next((other for other in conditions if _trait(other) == _trait(condition, MEASURED)), None)


def _trait(condition: Condition, indicator: str | None = None) -> tuple[str, float | None, dict[str, Any]]:
    options = {name: value for name, value in condition.resolved.items() if name not in ("assumed", "shuffle_seed")}
    return condition.method, condition.retention, options | ({"indicator": indicator} if indicator else {})


def stages(conditions: Sequence[Condition]) -> list[list[Condition]]:
    """Conditions in the order in which they can be decided: those that measure, then those that borrow, if there are.

    Raises:
        ConfigError: the row that a condition borrows from is not in the run.
    """
    for condition in filter(borrows, conditions):
        if lender_of(condition, conditions) is None:
            hint = f"list the same method and options with indicator {MEASURED} too, or give assumed a number"
            problem = f"{condition.row} takes its complexity from a row that is not in the run"
            raise ConfigError(problem, where="pruning", hint=hint)
    own = [condition for condition in conditions if not borrows(condition)]
    return [stage for stage in (own, [c for c in conditions if borrows(c)]) if stage]


def borrowed(
    conditions: Sequence[Condition],
    samples: Sequence[PlanningSample],
    lines: Mapping[tuple[str, str], tuple[Record, Any]],
) -> Borrowed:
    """What every condition that borrows takes for every sample.

    "static" takes the mean over the samples of the same kind and convention, rounded as in a line; "shuffled" the
    complexity of the next of them in an order drawn by the seed, so that every complexity is used once and no sample
    has its own. Samples without a measured one (an unusable picture) lend nothing.

    Args:
        conditions: of the run.
        samples: of the run.
        lines: what is decided; of the lenders everything.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for sample in samples:
        groups.setdefault((sample.kind, sample.convention.name), []).append(sample.key)
    found: Borrowed = {}
    for condition in filter(borrows, conditions):
        lender = lender_of(condition, conditions)
        assert lender is not None, "`stages` refuses such a run"
        for keys in groups.values():
            measured = {key: value for key in keys if (value := _complexity(lines, key, lender.id)) is not None}
            if control_of(condition) == "static":
                taken = dict.fromkeys(keys, rounded(sum(measured.values()) / len(measured))) if measured else {}
            else:
                taken = _next_of_others(keys, measured, int(condition.resolved["shuffle_seed"]))
            found |= {(key, condition.id): value for key, value in taken.items()}
    return found


def without_outdated(
    lines: Mapping[tuple[str, str], tuple[Record, Any]], taken: Borrowed
) -> dict[tuple[str, str], tuple[Record, Any]]:
    """Lines but those decided with another complexity than the condition takes now: an unusable picture was repaired
    since, and its sample has become one of the others."""
    return {
        key: (record, timing)
        for key, (record, timing) in lines.items()
        if record.trace is None or record.trace.complexity == taken.get(key, record.trace.complexity)
    }


def _complexity(lines: Mapping[tuple[str, str], tuple[Record, Any]], key: str, condition: str) -> float | None:
    record, _ = lines.get((key, condition), (None, None))
    return record.trace.complexity if record and record.trace else None


def _next_of_others(keys: Sequence[str], measured: Mapping[str, float], seed: int) -> dict[str, float]:
    order = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}/{key}".encode()).digest())
    taken: dict[str, float] = {}
    # Backwards through the order twice: the second round knows the first sample that lends.
    value: float | None = None
    for key in [*reversed(order), *reversed(order)]:
        if value is not None:
            taken[key] = value
        value = measured.get(key, value)
    return taken
