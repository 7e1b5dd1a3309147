"""Refuses decisions that contradict their run, so that whatever is computed from the rest is well defined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

from senna_prune.cost import ModelShape
from senna_prune.errors import RunError
from senna_prune.evaluation.run.records import UNPRUNED, Condition, Record, Trace
from senna_prune.task.labels import Convention
from senna_prune.task.truths import fault_of

CONVENTIONS = {Convention(*halves).name for halves in product(("corrected", "upstream"), repeat=2)}  # type: ignore[arg-type]
HINT = "that line is damaged: delete it and run the same evaluation again"


def require_consistent(records: Iterable[Record], conditions: Sequence[Condition], shape: ModelShape) -> None:
    """Check what scores, tables and plots rely on.

    Args:
        records: the decisions.
        conditions, shape: what `run.json` says of them.

    Raises:
        RunError: naming the first decision at fault, or that the run itself is unusable.
    """
    damaged = "run.json is damaged: delete the run and evaluate again"
    if not any(condition.id == UNPRUNED for condition in conditions):
        raise RunError(f"the run has no condition {UNPRUNED!r}, which all others are compared with", hint=damaged)
    if strange := [c.label for c in conditions if not c.label or not c.label.isprintable()]:
        raise RunError(f"the label {strange[0]!r} cannot be shown", hint=damaged)
    if min(shape.views, shape.view_tokens, shape.layers, shape.patches) < 1:
        raise RunError("the run's model has no layers, views, patches or visual tokens", hint=damaged)
    for record in records:
        if problem := _problem_of(record, shape):
            raise RunError(problem, where=f"sample {record.sample}, condition {record.condition}", hint=HINT)


def _problem_of(record: Record, shape: ModelShape) -> str | None:
    if record.convention not in CONVENTIONS:
        return f"{record.convention!r} is no convention"
    if fault := fault_of(record.kind, record.truth):
        return f"the truth {record.truth!r} {fault}"
    if record.error is not None and "message" not in record.error:
        return "the error has no message"
    if record.readout_positions < 0:
        return "a negative number of tokens was read out"
    return None if record.trace is None else _problem_of_trace(record.trace, shape)


def _problem_of_trace(trace: Trace, shape: ModelShape) -> str | None:
    if {len(trace.entering), len(trace.after), len(trace.per_view)} != {shape.layers}:
        return f"the trace does not have {shape.layers} layers"
    if {len(row) for row in trace.per_view} != {shape.views}:
        return f"the trace does not have {shape.views} views in every layer"
    if trace.depths is not None and len(trace.depths) != shape.num_visual:
        return f"the trace does not have {shape.num_visual} visual tokens"
    counts = (*trace.entering, *trace.after, *map(max, trace.per_view))
    if min(*counts, *map(min, trace.per_view), trace.text) < 0 or max(counts) > shape.num_visual:
        return "the trace counts fewer than no tokens, or more than there are"
    return None
