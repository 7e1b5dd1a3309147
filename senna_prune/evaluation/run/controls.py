"""Controls of adaptation: rows of AutoPrune that take what another row of the run measured, so that nothing adapts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from senna_prune.errors import ConfigError
from senna_prune.evaluation.run.records import Condition, Record, Timing, rounded
from senna_prune.task.sample import PlanningSample

CONTROLS = ("shuffled", "static")
"""Indicators of AutoPrune that measure nothing: another sample's complexity, or the mean over the samples."""
MEASURED = "mutual_information"


def control_of(condition: Condition) -> str | None:
    """Which of `CONTROLS` a condition is, None where it is none."""
    indicator = condition.resolved.get("indicator")
    return indicator if indicator in CONTROLS else None


def takes_measured(condition: Condition) -> bool:
    """Whether a condition's complexities come from another condition of the run, which is decided first."""
    return control_of(condition) is not None and condition.resolved.get("assumed") is None


def measured_row(condition: Condition, conditions: Iterable[Condition]) -> Condition | None:
    """The condition that differs from a control in nothing but that it measures mutual information."""
    return next((other for other in conditions if _trait(other) == _trait(condition, MEASURED)), None)


def _trait(condition: Condition, indicator: str | None = None) -> tuple[str, float | None, dict[str, Any]]:
    options = {name: value for name, value in condition.resolved.items() if name not in ("assumed", "shuffle_seed")}
    return condition.method, condition.retention, options | ({"indicator": indicator} if indicator else {})


def require_measured(conditions: Sequence[Condition]) -> None:
    """Raises ConfigError where the row that a condition takes its complexities from is not in the run."""
    for condition in filter(takes_measured, conditions):
        if measured_row(condition, conditions) is None:
            hint = f"list the same method and options with indicator {MEASURED} too, or give assumed a number"
            problem = f"{condition.row} takes its complexity from a row that is not in the run"
            raise ConfigError(problem, where="pruning", hint=hint)


def taken_complexities(
    conditions: Sequence[Condition],
    samples: Sequence[PlanningSample],
    lines: Mapping[tuple[str, str], tuple[Record, Timing]],
) -> dict[tuple[str, str], float]:
    """Complexity of every sample under every control, by (sample key, condition id).

    "static" takes the mean over the samples of the same kind and convention, rounded as in a line; "shuffled" the
    complexity of the next of them in an order drawn by the seed, so that every complexity is used once and no sample
    has its own. Samples without a measured one (an unusable image) give nothing.

    Args:
        conditions: of the run.
        samples: of the run.
        lines: what is decided; of the measured rows everything.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for sample in samples:
        groups.setdefault((sample.kind, sample.convention.name), []).append(sample.key)
    found: dict[tuple[str, str], float] = {}
    for condition in filter(takes_measured, conditions):
        row = measured_row(condition, conditions)
        assert row is not None, "`require_measured` refuses such a run"
        for keys in groups.values():
            measured = {
                key: line[0].trace.complexity
                for key in keys
                if (line := lines.get((key, row.id))) and line[0].trace and line[0].trace.complexity is not None
            }
            if control_of(condition) == "static":
                taken = dict.fromkeys(keys, rounded(sum(measured.values()) / len(measured))) if measured else {}
            else:
                taken = _next_of_others(keys, measured, int(condition.resolved["shuffle_seed"]))
            found |= {(key, condition.id): value for key, value in taken.items()}
    return found


def _next_of_others(keys: Sequence[str], measured: Mapping[str, float], seed: int) -> dict[str, float]:
    order = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}/{key}".encode()).digest())
    taken: dict[str, float] = {}
    # Backwards through the order twice: the second round knows the first sample that was measured.
    value: float | None = None
    for key in [*reversed(order), *reversed(order)]:
        if value is not None:
            taken[key] = value
        value = measured.get(key, value)
    return taken
