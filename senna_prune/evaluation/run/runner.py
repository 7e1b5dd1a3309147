"""Runs every sample under every condition, once, and keeps each decision the moment it is made."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from senna_prune.errors import ImageError, InputError, PruningError, RunError
from senna_prune.evaluation.run.reading import PictureReader, prefetched
from senna_prune.evaluation.run.records import Condition, Decision, Record
from senna_prune.evaluation.run.run_folder import Lines
from senna_prune.evaluation.run.system import EvaluatedSystem
from senna_prune.files import Journal
from senna_prune.task.sample import PlanningSample


@dataclass(frozen=True)
class Task:
    """One sample and the conditions still to decide it under.

    Attributes:
        depths: record which tokens were kept.
        taken: complexity by condition id, of the conditions that do not measure their own.
    """

    sample: PlanningSample
    conditions: tuple[Condition, ...]
    depths: bool
    taken: Mapping[str, float]


Chunk = tuple[Task, ...]
"""Samples that are decided together. Which ones follows from the planning set and the batch size alone, never from what
is left to do: the last digits of a sample's numbers depend on the other samples of its batch. A task without conditions
is done; it is in the batch only so that the others get the same numbers as in an uninterrupted run."""


BACKGROUND = "preprocess"
"""Stage that runs in the background: the loop spends no time on it, except when it waits for its end."""
SHARED = (BACKGROUND, "vision", "adapter")
"""Stages that ran once for all conditions of a sample; the time of each is repeated in every one of its decisions."""


@dataclass
class Spent:
    """Where the time of the deciding loop went, in seconds.

    Attributes:
        total: of the loop.
        model: in the stages of the model, each as often as it ran.
        waiting: for images that were not ready in time.
    """

    total: float = 0.0
    model: float = 0.0
    waiting: float = 0.0

    def count(self, decisions: Sequence[Decision], *, encoding: bool) -> None:
        """Add the model's time of decisions; `encoding`: they are the first after their samples were encoded."""
        left_out = {BACKGROUND} if encoding else set(SHARED)
        for decision in decisions:
            self.model += 1e-3 * sum(time for stage, time in decision.milliseconds.items() if stage not in left_out)

    @property
    def overhead(self) -> float:
        """What the evaluator itself took."""
        return self.total - self.model - self.waiting

    def __str__(self) -> str:
        shares = [100 * part / self.total if self.total else 0.0 for part in (self.overhead, self.waiting)]
        return f"evaluator overhead {shares[0]:.1f} % of {self.total:.1f} s, waiting for images {shares[1]:.1f} %"


@dataclass(frozen=True)
class _Ready:
    """A task whose sample was loaded: what the system made of it, and the digests of its images by path."""

    task: Task
    prepared: Any
    digests: dict[str, str]


def plan_of_work(
    samples: Sequence[PlanningSample],
    conditions: Sequence[Condition],
    done: Lines,
    kept_samples: int,
    batch_size: int = 1,
    taken: Mapping[tuple[str, str], float] | None = None,
) -> list[Chunk]:
    """The chunks with something left to do. A sample that failed is tried again: its image may have been repaired.
    A line is also made anew where its condition now takes another complexity (`taken_complexities`).

    Kept tokens are recorded for `kept_samples` keyframes spread over the set, as neighbours look alike.
    """
    # A keyframe may be in the set twice, once under each camera order: record both or neither.
    tokens = list(dict.fromkeys(sample.token for sample in samples))
    count = min(kept_samples, len(tokens))
    recorded = {tokens[number * len(tokens) // count] for number in range(count)}
    given: dict[str, dict[str, float]] = {}
    for (key, name), complexity in (taken or {}).items():
        given.setdefault(key, {})[name] = complexity
    tasks = []
    for sample in samples:
        own = given.get(sample.key, {})
        left = tuple(c for c in conditions if not _is_done(done.get((sample.key, c.id)), own.get(c.id)))
        tasks.append(Task(sample, left, sample.token in recorded, own))
    chunks: list[Chunk] = [(task,) for task in tasks] if batch_size == 1 else _batches(tasks, batch_size)
    return [chunk for chunk in chunks if left_in(chunk)]


def _is_done(line: tuple[Record, Any] | None, taken: float | None) -> bool:
    if line is None or line[0].error is not None:
        return False
    trace = line[0].trace
    return taken is None or trace is None or trace.complexity == taken


def _batches(tasks: list[Task], size: int) -> list[Chunk]:
    """Chunks of one kind of question each, because each kind is read out in its own way.

    Questions of similar length need the least padding. Their characters are close enough, and need no tokenizer.
    """
    of_kind: dict[str, list[Task]] = {}
    for task in sorted(tasks, key=lambda task: len(task.sample.question)):
        of_kind.setdefault(task.sample.kind, []).append(task)
    return [tuple(group[start : start + size]) for group in of_kind.values() for start in range(0, len(group), size)]


def left_in(chunk: Chunk) -> int:
    """Decisions still to make."""
    return sum(len(task.conditions) for task in chunk)


def run_tasks(
    chunks: Sequence[Chunk],
    system: EvaluatedSystem,
    journal: Journal,
    pictures: PictureReader,
    *,
    fail_on_error: bool,
    advance: Callable[[int], None] = lambda decisions: None,
) -> Spent:
    """Decide everything that is left; what the conditions of a sample share is computed once.

    The images of a chunk are read while the one before it is decided.

    Args:
        chunks: this process's share of the work.
        system: ready to decide.
        journal: takes one line per decision; a sample's first line also holds the digests of its images.
        pictures: reads them.
        fail_on_error: an unusable image stops the run; otherwise it becomes an error line of every condition, and the
            rest of its chunk is decided without it.
        advance: told how many decisions were made, as they are kept.

    Returns:
        Where the time went.

    Raises:
        ImageError: an unusable image, with `fail_on_error`.
        RunError: an image changed since a decision saw it, or a decision holds numbers that are not finite.
        InputError, PruningError: as the system raises them; those of `decide` begin with the samples and the condition.
        FileError: the journal cannot be written.
    """
    spent, began = Spent(), time.perf_counter()

    def load(task: Task) -> _Ready:
        contents, digests = pictures.read(task.sample)
        return _Ready(task, system.prepare(task.sample, contents), digests)

    with prefetched(load, chunks) as coming:
        for chunk, futures in zip(chunks, coming, strict=True):
            usable = []
            for task, future in zip(chunk, futures, strict=True):
                try:
                    usable.append(_waited(future, spent))
                except ImageError as error:
                    if fail_on_error:
                        raise
                    problem = {"type": type(error).__name__, "message": str(error)}
                    for condition in task.conditions:
                        record = _record(task.sample, condition, error=problem)
                        journal.append({"record": record.to_dict(), "timing": {}})
                        advance(1)
            if left_in(tuple(ready.task for ready in usable)):
                _decide(usable, system, journal, pictures, advance, spent)
    spent.total = time.perf_counter() - began
    return spent


def _waited(future: Future[_Ready], spent: Spent) -> _Ready:
    began = time.perf_counter()
    try:
        return future.result()
    finally:
        spent.waiting += time.perf_counter() - began


def _decide(
    usable: Sequence[_Ready],
    system: EvaluatedSystem,
    journal: Journal,
    pictures: PictureReader,
    advance: Callable[[int], None],
    spent: Spent,
) -> None:
    """Decide a chunk's usable samples under every condition that one of them lacks, and keep what was lacking.

    Where an image was repaired, the other samples keep what was decided without it.
    """
    tasks = [ready.task for ready in usable]
    keys = ", ".join(task.sample.key for task in tasks)
    with _naming(f"sample {keys}"):
        encoded = system.encode([ready.prepared for ready in usable])
    depths = [task.depths for task in tasks]
    lacking = {condition.id: condition for task in tasks for condition in task.conditions}
    unsaid = {ready.task.sample.key: ready.digests for ready in usable}
    for number, condition in enumerate(lacking.values()):
        with _naming(f"sample {keys}, condition {condition.id}"):
            decisions = system.decide(encoded, condition, depths, [task.taken.get(condition.id) for task in tasks])
        spent.count(decisions, encoding=number == 0)
        for task, decision in zip(tasks, decisions, strict=True):
            _require_finite(task.sample, condition, decision)
            if condition in task.conditions:
                line = {"record": _record(task.sample, condition, decision).to_dict(), "timing": _timing(decision)}
                if digests := unsaid.pop(task.sample.key, None):
                    line["pictures"] = digests
                    pictures.keep(digests)
                journal.append(line)
                advance(1)


@contextmanager
def _naming(place: str) -> Iterator[None]:
    """Put what is being decided in front of an error of the model or the pruner, which knows only tensors."""
    try:
        yield
    except (InputError, PruningError) as error:
        error.where = place if error.where is None else f"{place}: {error.where}"
        raise


def _require_finite(sample: PlanningSample, condition: Condition, decision: Decision) -> None:
    numbers = [*(decision.distribution or ()), decision.trace.complexity or 0.0]
    if not all(map(math.isfinite, numbers)):
        raise RunError(
            "the model's output is not finite",
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
        kind=sample.kind,
        survival=decision.survival if decision else None,
    )


def _timing(decision: Decision) -> dict[str, Any]:
    stages = {name: round(value, 4) for name, value in decision.milliseconds.items()}
    return {"milliseconds": stages, "peak_bytes": decision.peak_bytes}
