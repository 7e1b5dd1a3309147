"""Runs every sample under every condition, once, and keeps each decision the moment it is made."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from senna_prune.errors import ImageError, RunError
from senna_prune.evaluation.run.prefetch import prefetched
from senna_prune.evaluation.run.records import Condition, Decision, Record
from senna_prune.evaluation.run.run_folder import Lines
from senna_prune.evaluation.run.spent import Spent
from senna_prune.evaluation.run.system import EvaluatedSystem
from senna_prune.files import Journal
from senna_prune.task.sample import PlanningSample


@dataclass(frozen=True)
class Task:
    """One sample and the conditions still to decide it under; `depths`: record which tokens were kept."""

    sample: PlanningSample
    conditions: tuple[Condition, ...]
    depths: bool


Chunk = tuple[Task, ...]
"""Samples that are decided together. Who they are follows from the planning set and the batch size alone, never from
what is left: a batch's last digits depend on its company. A task without conditions is done and keeps company only."""


def plan_of_work(
    samples: Sequence[PlanningSample],
    conditions: Sequence[Condition],
    done: Lines,
    kept_samples: int,
    batch_size: int = 1,
) -> list[Chunk]:
    """The chunks with something left to do. A sample that failed is tried again: its picture may have been mended.

    Kept tokens are recorded for `kept_samples` keyframes spread over the set, as neighbours look alike.
    """
    # A keyframe may stand twice, once under each camera order: both or neither.
    tokens = list(dict.fromkeys(sample.token for sample in samples))
    recorded = {tokens[number * len(tokens) // kept_samples] for number in range(kept_samples)}
    tasks = []
    for sample in samples:
        left = tuple(c for c in conditions if (line := done.get((sample.key, c.id))) is None or line[0].error)
        tasks.append(Task(sample, left, sample.token in recorded))
    if batch_size > 1:
        # Questions of a length pad each other least; characters tell lengths apart well enough, and need no tokenizer.
        tasks.sort(key=lambda task: len(task.sample.question))
    chunks = [tuple(tasks[start : start + batch_size]) for start in range(0, len(tasks), batch_size)]
    return [chunk for chunk in chunks if left_in(chunk)]


def left_in(chunk: Chunk) -> int:
    """Decisions still to make."""
    return sum(len(task.conditions) for task in chunk)


def run_tasks(
    chunks: Sequence[Chunk],
    system: EvaluatedSystem,
    journal: Journal,
    *,
    fail_on_error: bool,
    advance: Callable[[int], None] = lambda decisions: None,
) -> Spent:
    """Decide everything that is left; what the conditions of a sample share is computed once.

    The pictures of a chunk are read while the one before it is decided.

    Args:
        chunks: this process's share of the work.
        system: ready to decide.
        journal: takes one line per decision.
        fail_on_error: an unusable picture stops the run; otherwise it becomes an error line of every condition, and the
            rest of its chunk is decided without it.
        advance: told how many decisions were made, as they are kept.

    Returns:
        Where the time went.

    Raises:
        ImageError: an unusable picture, with `fail_on_error`.
        RunError: the journal cannot be written.
    """
    spent, began = Spent(), time.perf_counter()
    groups = [[task.sample for task in chunk] for chunk in chunks]
    with prefetched(system.prepare, groups) as coming:
        for chunk, futures in zip(chunks, coming, strict=True):
            usable, prepared = [], []
            for task, future in zip(chunk, futures, strict=True):
                try:
                    prepared.append(_waited(future, spent))
                    usable.append(task)
                except ImageError as error:
                    if fail_on_error:
                        raise
                    problem = {"type": type(error).__name__, "message": str(error)}
                    for condition in task.conditions:
                        record = _record(task.sample, condition, error=problem)
                        journal.append({"record": record.to_dict(), "timing": {}})
                        advance(1)
            if left_in(tuple(usable)):
                _decide(usable, prepared, system, journal, advance, spent)
    spent.total = time.perf_counter() - began
    return spent


def _waited(future: Future[Any], spent: Spent) -> Any:
    began = time.perf_counter()
    try:
        return future.result()
    finally:
        spent.waiting += time.perf_counter() - began


def _decide(
    tasks: Sequence[Task],
    prepared: Sequence[Any],
    system: EvaluatedSystem,
    journal: Journal,
    advance: Callable[[int], None],
    spent: Spent,
) -> None:
    """Decide a chunk's usable samples under every condition that one of them lacks, and keep what was lacking.

    Where a picture was mended, the others keep what was decided without it.
    """
    encoded = system.encode(prepared)
    depths = [task.depths for task in tasks]
    lacking = {condition.id: condition for task in tasks for condition in task.conditions}
    for number, condition in enumerate(lacking.values()):
        decisions = system.decide(encoded, condition, depths)
        spent.count(decisions, encoding=number == 0)
        for task, decision in zip(tasks, decisions, strict=True):
            _require_finite(task.sample, condition, decision)
            if condition in task.conditions:
                record = _record(task.sample, condition, decision)
                journal.append({"record": record.to_dict(), "timing": _timing(decision)})
                advance(1)


def _require_finite(sample: PlanningSample, condition: Condition, decision: Decision) -> None:
    if not all(map(math.isfinite, decision.distribution or ())):
        raise RunError(
            "the model's probabilities are not finite",
            where=f"sample {sample.key}, condition {condition.id}",
            hint="check the checkpoint, or set model.dtype to a type of more range (bfloat16, float32)",
        )


def _record(
    sample: PlanningSample,
    condition: Condition,
    decision: Decision | None = None,
    error: dict[str, str] | None = None,
) -> Record:
    return Record(
        sample=sample.key,
        condition=condition.id,
        scene=sample.scene,
        convention=sample.convention.name,
        truth=sample.answer.strip(),
        answer=decision.answer if decision else None,
        error=error,
        trace=decision.trace if decision else None,
        readout_positions=decision.readout_positions if decision else 0,
        distribution=decision.distribution if decision else None,
    )


def _timing(decision: Decision) -> dict[str, Any]:
    stages = {name: round(value, 4) for name, value in decision.milliseconds.items()}
    return {"milliseconds": stages, "peak_bytes": decision.peak_bytes}
