"""Runs every sample under every condition, once, and keeps each decision the moment it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from senna_prune.errors import ImageError
from senna_prune.evaluation.files import Journal
from senna_prune.evaluation.records import Condition, Decision, Record
from senna_prune.evaluation.run_folder import Lines
from senna_prune.evaluation.system import EvaluatedSystem
from senna_prune.planning.sample import PlanningSample


@dataclass(frozen=True)
class Task:
    """One sample and the conditions still to decide it under; `depths`: record which tokens were kept."""

    sample: PlanningSample
    conditions: tuple[Condition, ...]
    depths: bool


def plan_of_work(
    samples: Sequence[PlanningSample], conditions: Sequence[Condition], done: Lines, kept_samples: int
) -> list[Task]:
    """What is left to do. A sample that failed is tried again: its picture may have been mended.

    Kept tokens are recorded for `kept_samples` keyframes spread over the set, as neighbours look alike.
    """
    # A keyframe may stand twice, once under each camera order: both or neither.
    tokens = list(dict.fromkeys(sample.token for sample in samples))
    recorded = {tokens[number * len(tokens) // kept_samples] for number in range(kept_samples)}
    tasks = []
    for sample in samples:
        left = tuple(c for c in conditions if (line := done.get((sample.key, c.id))) is None or line[0].error)
        if left:
            tasks.append(Task(sample, left, sample.token in recorded))
    return tasks


def run_tasks(
    tasks: Sequence[Task],
    system: EvaluatedSystem,
    journal: Journal,
    *,
    fail_on_error: bool,
    advance: Callable[[int], None] = lambda decisions: None,
) -> None:
    """Decide every task; what the conditions of a sample share is computed once.

    Args:
        tasks: this process's share of the work.
        system: ready to decide.
        journal: takes one line per decision.
        fail_on_error: an unusable picture stops the run; otherwise it becomes an error line of every condition.
        advance: told after each task how many decisions were made.

    Raises:
        ImageError: an unusable picture, with `fail_on_error`.
        RunError: the journal cannot be written.
    """
    for task in tasks:
        try:
            encoded = system.encode(task.sample)
        except ImageError as error:
            if fail_on_error:
                raise
            problem = {"type": type(error).__name__, "message": str(error)}
            for condition in task.conditions:
                journal.append({"record": _record(task.sample, condition, error=problem).to_dict(), "timing": {}})
        else:
            for condition in task.conditions:
                decision = system.decide(encoded, condition, task.depths)
                record = _record(task.sample, condition, decision)
                journal.append({"record": record.to_dict(), "timing": _timing(decision)})
        advance(len(task.conditions))


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
