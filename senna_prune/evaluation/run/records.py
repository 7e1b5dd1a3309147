"""What one decision leaves behind: plain numbers and text, one JSON line each, and nothing that needs torch to read.

Every class but `Decision` is read from files that somebody may have damaged: msgspec checks each value's type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Annotated, Any, Literal, TypedDict, TypeVar, cast

from msgspec import DecodeError, Meta, Struct, ValidationError, to_builtins
from msgspec import field as default
from msgspec.json import Decoder
from msgspec.structs import force_setattr

from senna_prune.cost import Count
from senna_prune.errors import RunError
from senna_prune.evaluation.audit.survival import Survival
from senna_prune.task.labels import KINDS, PLAN

T = TypeVar("T")
SCHEMA_VERSION = 1
Real = Annotated[float, Meta(ge=-1e300, le=1e300)]
"""Larger ones overflow in a sum. JSON has no NaN and no infinities."""

LINE_HINT = "delete that line and run the same evaluation again: the decision is then made anew"
"""What helps when one line of a run is damaged."""

_shared: Callable[[Any], Any] = lru_cache(1 << 16)(lambda value: value)
"""The first of equal values: most tuples and texts of a run's lines occur many times, and one copy is enough."""

UNPRUNED = "none"
"""The condition that every ratio, agreement and difference compares with."""
RANDOM = "random"
"""The control that every method is compared with, at the method's own retention and kept positions."""
MAJORITY = "majority"
"""A row added by scoring: it always gives the most frequent answer of the samples that are scored."""
UNBUDGETED = (UNPRUNED, "blind")
"""Methods that take no retention: one condition each."""
ORACLES = ("oracle", "anti_oracle")
"""Controls that need a sample's objects."""
CONTROLS = (*UNBUDGETED, RANDOM, "uniform", *ORACLES)
"""Labels that always mean the method of the same name, because readers of the table rely on it."""


class Condition(Struct, frozen=True, forbid_unknown_fields=True):
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
    options: Mapping[str, Any] = default(default_factory=dict)
    resolved: Mapping[str, Any] = default(default_factory=dict)

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


class Trace(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the visual tokens went, for L layers.

    Attributes:
        entering, after: visual tokens entering and after each layer.
        text: text tokens beside them, in every layer.
        per_view: tokens entering each layer by view.
        complexity: the number that chose the schedule, None for static methods.
        depths: for each visual token of the prompt the number of layers it enters (tokens only ever leave), or None
            where it was not asked for.
    """

    entering: tuple[Count, ...]
    after: tuple[Count, ...]
    text: Count
    per_view: tuple[tuple[Count, ...], ...]
    complexity: Real | None = None
    depths: tuple[Count, ...] | None = None

    def __post_init__(self) -> None:
        if not len(self.entering) == len(self.after) == len(self.per_view) > 0:
            raise ValueError("the trace's lists differ in their numbers of layers")
        force_setattr(self, "entering", _shared(tuple(self.entering)))
        force_setattr(self, "after", _shared(tuple(self.after)))
        force_setattr(self, "per_view", _shared(tuple(_shared(tuple(row)) for row in self.per_view)))


@dataclass(frozen=True)
class Decision:
    """What an evaluated system returns for one sample under one condition.

    Attributes:
        answer: the text.
        trace: where the tokens went; None of a system without visual tokens.
        readout_positions: tokens that ran through the decoder after the prompt.
        distribution: probability of each of the 20 plans in the order of `PLANS`, or None.
        milliseconds: by stage; what is shared between conditions is counted in every one.
        peak_bytes: peak accelerator memory, None where it is not measured.
        survival: of the sample's objects, None where it does not tell them.
    """

    answer: str
    trace: Trace | None = None
    readout_positions: int = 0
    distribution: tuple[float, ...] | None = None
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    peak_bytes: int | None = None
    survival: Survival | None = None


class Record(Struct, frozen=True, forbid_unknown_fields=True, tag_field="schema", tag=SCHEMA_VERSION):
    """One line of `decisions.jsonl`. Exactly one of `answer` and `error` is given.

    Attributes:
        sample: key of the planning sample. scene, convention, truth: of that sample.
        condition: id of the condition.
        error: type and message of what made the sample unusable.
        kind: of the question, one of `KINDS`. The line of a plan leaves it out, as it always has.
        survival: of the sample's objects; left out where it does not tell them.
    """

    sample: str
    condition: str
    scene: str
    convention: str
    truth: str
    answer: str | None = None
    error: Mapping[str, str] | None = None
    trace: Trace | None = None
    readout_positions: Count = 0
    distribution: tuple[Real, ...] | None = None
    kind: Literal[KINDS] = PLAN  # type: ignore[valid-type]
    survival: Survival | None = None

    def __post_init__(self) -> None:
        for name in ("sample", "condition", "scene", "convention", "truth", "answer"):
            force_setattr(self, name, _shared(getattr(self, name)))

    @property
    def key(self) -> tuple[str, str]:
        return self.sample, self.condition

    def to_dict(self) -> dict[str, Any]:
        line: dict[str, Any] = to_builtins(self)
        if self.kind == PLAN:
            del line["kind"]
        if self.survival is None:
            del line["survival"]
        return line


class Timing(TypedDict, total=False):
    """Time and memory of one decision, as a line of `timing.jsonl` holds them: milliseconds by stage, and peak
    accelerator memory, None where it is not measured. The line also names the decision and what made it (see
    `run_key.condition_digest`)."""

    sample: str
    condition: str
    made_by: str
    milliseconds: dict[str, Real]
    peak_bytes: Count | None


Seen = tuple[str, int, int]
"""Digest of an image's bytes; size (bytes) and time of change (nanoseconds) of its file, -1 where they are unknown."""


class Entry(Struct, frozen=True):
    """One line of a journal. `pictures`: what the decision saw, by their paths, where they are new."""

    record: Record
    timing: Timing = {}
    pictures: dict[str, Seen] = {}


@cache
def _decoder(kind: Any) -> Decoder[Any]:
    return Decoder(kind)


def decoded(kind: type[T], content: bytes, where: object, hint: str) -> T:
    """JSON that somebody may have damaged, as a type whose every value is checked.

    Raises:
        RunError: it is no JSON; a field is missing, unknown or of another type; or a number is out of range.
    """
    try:
        return cast(T, _decoder(cast(Any, kind)).decode(content))
    except (DecodeError, UnicodeDecodeError) as error:
        raise RunError(_in_words(error), where=where, hint=hint) from error
    except RecursionError as error:
        raise RunError("not JSON (nested too deeply)", where=where, hint=hint) from error


def _in_words(error: Exception) -> str:
    problem, _, path = str(error).partition(" - at `$")
    path = path.strip(".`")
    if not isinstance(error, ValidationError):
        return f"not JSON ({problem})"
    if not path and problem.startswith("Expected `object`"):
        return "not a JSON object"
    for words, said in (
        ("Object missing required field", "is missing"),
        ("Object contains unknown field", "is unknown"),
    ):
        if problem.startswith(words):
            return f"field {'.'.join(filter(None, [path, problem.split('`')[1]]))} {said}"
    return f"{path}: {problem}" if path else problem


def rounded(value: float, digits: int = 6) -> float:
    """`value` with so many significant digits; the digits after them depend on the number of threads."""
    return float(f"{value:.{digits}g}")
