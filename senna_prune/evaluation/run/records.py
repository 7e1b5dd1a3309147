"""What one decision leaves behind: plain numbers and text, one JSON line each, and nothing that needs torch to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from senna_prune.errors import RunError
from senna_prune.evaluation.run.typed_json import from_json
from senna_prune.task.labels import KINDS, PLAN

SCHEMA_VERSION = 1

LINE_HINT = "delete that line and run the same evaluation again: the decision is then made anew"
"""What helps when one line of a run is damaged."""

UNPRUNED = "none"
"""The condition that every ratio, agreement and difference compares with."""
RANDOM = "random"
"""The control that every method is compared with, at the method's own retention and kept positions."""
MAJORITY = "majority"
"""A row added by scoring: it always gives the most frequent answer of the samples that are scored."""


@dataclass(frozen=True)
class Condition:
    """One way of pruning that every sample is decided under.

    Attributes:
        label: name in tables; the method's own unless the configuration gave it another.
        method: registered method.
        retention: share of the visual tokens, None for methods without a budget.
        seed: None for methods without randomness.
        options: options of the method.
        resolved: every option with its value, defaults included; empty in runs of versions that did not keep them.
    """

    label: str
    method: str
    retention: float | None = None
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    resolved: Mapping[str, Any] = field(default_factory=dict)

    @property
    def positions(self) -> str | None:
        """What positions kept tokens have; None without a budget, where nothing is chosen, and where it is unknown."""
        known = self.resolved.get("positions") if self.retention is not None else None
        return known if known in ("original", "repacked") else None

    @property
    def is_random_control(self) -> bool:
        """Whether this is `random` with nothing changed but positions and seed."""
        return self.method == RANDOM and set(self.options) <= {"positions", "seed"}

    @property
    def row(self) -> str:
        """Table row, e.g. `random@0.25`: the seeds of a method share one."""
        return self.label if self.retention is None else f"{self.label}@{self.retention:g}"

    @property
    def id(self) -> str:
        """Unique within a run, e.g. `random@0.25#1`."""
        return self.row if self.seed is None else f"{self.row}#{self.seed}"


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
        kind: of the question, one of `KINDS`. The line of a plan leaves it out, as it always has.
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
    kind: str = PLAN

    @property
    def key(self) -> tuple[str, str]:
        return self.sample, self.condition

    def to_dict(self) -> dict[str, Any]:
        # Not `asdict`, which copies every one of a trace's numbers.
        line = {"schema": SCHEMA_VERSION, **vars(self), "trace": vars(self.trace) if self.trace else None}
        if self.kind == PLAN:
            del line["kind"]
        return line

    @classmethod
    def from_dict(cls, record: Any, where: str) -> Record:
        """A record from a decoded line; raises RunError for another schema, or fields that are no decision's."""
        values = dict(record) if isinstance(record, dict) else record
        if isinstance(values, dict) and (schema := values.pop("schema", None)) != SCHEMA_VERSION:
            raise RunError(f"schema version {schema!r}, expected {SCHEMA_VERSION}", where=where, hint=LINE_HINT)
        read = from_json(cls, values, where, LINE_HINT)
        if read.kind not in KINDS:
            raise RunError(f"unknown kind of question {read.kind[:40]!r}", where=where, hint=LINE_HINT)
        if (read.answer is None) == (read.error is None):
            raise RunError("a decision has either an answer or an error", where=where, hint=LINE_HINT)
        trace = read.trace
        if trace and not len(trace.entering) == len(trace.after) == len(trace.per_view) > 0:
            raise RunError("the trace's lists differ in their numbers of layers", where=where, hint=LINE_HINT)
        return read


@dataclass(frozen=True)
class Measured:
    """Time and memory of one decision, as a line of `timing.jsonl` holds them.

    Attributes:
        milliseconds: by stage.
        peak_bytes: peak accelerator memory, None where it is not measured.
    """

    milliseconds: Mapping[str, float] = field(default_factory=dict)
    peak_bytes: int | None = None


def rounded(value: float, digits: int = 6) -> float:
    """`value` with so many significant digits; the digits after them depend on the number of threads."""
    return float(f"{value:.{digits}g}")
