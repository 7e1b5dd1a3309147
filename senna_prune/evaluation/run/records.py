"""What one decision leaves behind: plain numbers and text, one JSON line each, and nothing that needs torch to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from senna_prune.errors import RunError

SCHEMA_VERSION = 1

UNPRUNED = "none"
"""Condition every ratio, loyalty and difference is taken to."""
RANDOM = "random"
"""Control every method is compared with at its retention."""
MAJORITY = "majority"
"""Row that always gives the most frequent answer of the very samples it is scored on; made when scoring."""


@dataclass(frozen=True)
class Condition:
    """One way of pruning that every sample is decided under.

    Attributes:
        label: name in tables; the method's own unless the configuration gave it another.
        method: registered method.
        retention: share of the visual tokens, None for methods without a budget.
        seed: None for methods without randomness.
        options: options of the method.
    """

    label: str
    method: str
    retention: float | None = None
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def row(self) -> str:
        """Table row, e.g. `random@0.25`: the seeds of a method share one."""
        return self.label if self.retention is None else f"{self.label}@{self.retention:g}"

    @property
    def id(self) -> str:
        """Unique within a run, e.g. `random@0.25#1`."""
        return self.row if self.seed is None else f"{self.row}#{self.seed}"

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Condition:
        return cls(**record)


@dataclass(frozen=True)
class Trace:
    """Where the visual tokens went, for L layers.

    Attributes:
        entering, after: visual tokens entering and after each layer.
        text: text tokens beside them, in every layer.
        per_view: tokens entering each layer by view.
        complexity: the number that chose the schedule, None for static methods.
        depths: for each visual token of the prompt the number of layers it enters (tokens only ever leave), or None
            where it was not asked for.
    """

    entering: tuple[int, ...]
    after: tuple[int, ...]
    text: int
    per_view: tuple[tuple[int, ...], ...]
    complexity: float | None = None
    depths: tuple[int, ...] | None = None

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Trace:
        depths = record.get("depths")
        return cls(
            entering=tuple(record["entering"]),
            after=tuple(record["after"]),
            text=record["text"],
            per_view=tuple(tuple(row) for row in record["per_view"]),
            complexity=record.get("complexity"),
            depths=None if depths is None else tuple(depths),
        )


@dataclass(frozen=True)
class Decision:
    """What an evaluated system returns for one sample under one condition.

    Attributes:
        answer: the text.
        trace: where the tokens went.
        readout_positions: tokens that ran through the decoder after the prompt.
        distribution: probability of each of the 20 plans in the order of `PLANS`, or None.
        milliseconds: by stage; what is shared between conditions is counted in every one.
        peak_bytes: peak accelerator memory, None where it is not measured.
    """

    answer: str
    trace: Trace
    readout_positions: int = 0
    distribution: tuple[float, ...] | None = None
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Record:
    """One line of `decisions.jsonl`. Exactly one of `answer` and `error` is given.

    Attributes:
        sample: key of the planning sample. scene, convention, truth: of that sample.
        condition: id of the condition.
        error: type and message of what made the sample unusable.
    """

    sample: str
    condition: str
    scene: str
    convention: str
    truth: str
    answer: str | None = None
    error: Mapping[str, str] | None = None
    trace: Trace | None = None
    readout_positions: int = 0
    distribution: tuple[float, ...] | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.sample, self.condition

    def to_dict(self) -> dict[str, Any]:
        # Not `asdict`, which copies every one of a trace's numbers.
        return {"schema": SCHEMA_VERSION, **vars(self), "trace": vars(self.trace) if self.trace else None}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], where: str) -> Record:
        """Raises RunError for another schema or missing fields."""
        values = dict(record)
        if (schema := values.pop("schema", None)) != SCHEMA_VERSION:
            raise RunError(f"schema version {schema!r}, expected {SCHEMA_VERSION}", where=where, hint="run it again")
        try:
            if values.get("trace") is not None:
                values["trace"] = Trace.from_dict(values["trace"])
            if values.get("distribution") is not None:
                values["distribution"] = tuple(values["distribution"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise RunError(f"not a decision record ({error})", where=where, hint="run it again") from error


def rounded(value: float, digits: int = 6) -> float:
    """`value` to so many significant digits: beyond them, numbers differ between numbers of threads."""
    return float(f"{value:.{digits}g}")
