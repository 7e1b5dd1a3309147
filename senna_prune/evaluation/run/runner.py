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
from senna_prune.evaluation.run.reading import ImageReader, prefetched
from senna_prune.evaluation.run.records import Condition, Decision, Record, Seen
from senna_prune.evaluation.run.system import EvaluatedSystem, Task
from senna_prune.evaluation.run.work import Chunk, left_in
from senna_prune.files import Journal
from senna_prune.task.sample import PlanningSample

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
    """A task whose sample was loaded: what the system made of it, and its images by path."""

    task: Task
    prepared: Any
    images: dict[str, Seen]


class Runner:
    """Decides one process's share of the work.

    Args:
        system: ready to decide.
        journal: takes one line per decision; a sample's first line also tells its images.
        images: reads them.
        made_by: digest by condition id, for the lines; see `run_key.condition_digest`.
        fail_on_error: an unusable image stops the run; otherwise it becomes an error line of every condition, and the
            rest of its chunk is decided without it.
        advance: told how many decisions were made, as they are kept.
    """

    def __init__(
        self,
        system: EvaluatedSystem,
        journal: Journal,
        images: ImageReader,
        made_by: Mapping[str, str],
        *,
        fail_on_error: bool = True,
        advance: Callable[[int], None] = lambda decisions: None,
    ) -> None:
        self.system, self.journal, self.images, self.made_by = system, journal, images, made_by
        self.fail_on_error, self.advance = fail_on_error, advance
        self.spent = Spent()

    def run(self, chunks: Sequence[Chunk]) -> Spent:
        """Decide everything that is left. The images of a chunk are read while the one before it is decided.

        Returns:
            Where the time went.

        Raises:
            ImageError: an unusable image, with `fail_on_error`.
            RunError: an image changed since a decision saw it, or a decision holds numbers that are not finite.
            InputError, PruningError: as the system raises them; those of `decide` begin with samples and condition.
            FileError: the journal cannot be written.
        """
        began = time.perf_counter()
        with prefetched(self._load, chunks) as coming:
            for chunk, futures in zip(chunks, coming, strict=True):
                usable = []
                for task, future in zip(chunk, futures, strict=True):
                    try:
                        usable.append(self._waited(future))
                    except ImageError as error:
                        if self.fail_on_error:
                            raise
                        for condition in task.conditions:
                            self._keep(_record(task.sample, condition, error=error), {})
                if left_in(tuple(ready.task for ready in usable)):
                    self._decide(usable)
        self.spent.total = time.perf_counter() - began
        return self.spent

    def _load(self, task: Task) -> _Ready:
        contents, images = self.images.read(task.sample)
        return _Ready(task, self.system.prepare(task, contents), images)

    def _waited(self, future: Future[_Ready]) -> _Ready:
        began = time.perf_counter()
        try:
            return future.result()
        finally:
            self.spent.waiting += time.perf_counter() - began

    def _decide(self, usable: Sequence[_Ready]) -> None:
        """Decide a chunk's usable samples under every condition that one of them lacks, and keep what was lacking.

        Where an image was repaired, the other samples keep what was decided without it.
        """
        tasks = [ready.task for ready in usable]
        keys = ", ".join(task.sample.key for task in tasks)
        lacking = list({condition.id: condition for task in tasks for condition in task.conditions}.values())
        unsaid = {ready.task.sample.key: ready.images for ready in usable}
        coming = self.system.decide([ready.prepared for ready in usable], lacking)
        for number, condition in enumerate(lacking):
            with _naming(f"sample {keys}, condition {condition.id}"):
                decisions = next(coming)
            self.spent.count(decisions, encoding=number == 0)
            for task, decision in zip(tasks, decisions, strict=True):
                _require_finite(task.sample, condition, decision)
                if condition in task.conditions:
                    images = unsaid.pop(task.sample.key, {})
                    self.images.keep(images)
                    self._keep(_record(task.sample, condition, decision), _timing(decision), images)

    def _keep(self, record: Record, timing: dict[str, Any], images: Mapping[str, Seen] | None = None) -> None:
        if record.condition in self.made_by:
            timing["made_by"] = self.made_by[record.condition]
        told = {"pictures": images} if images else {}
        self.journal.append({"record": record.to_dict(), "timing": timing, **told})
        self.advance(1)


@contextmanager
def _naming(place: str) -> Iterator[None]:
    """Put what is being decided in front of an error of the model or the pruner, which knows only tensors."""
    try:
        yield
    except (InputError, PruningError) as error:
        error.where = place if error.where is None else f"{place}: {error.where}"
        raise


def _require_finite(sample: PlanningSample, condition: Condition, decision: Decision) -> None:
    complexity = decision.trace.complexity if decision.trace else None
    if not all(map(math.isfinite, [*(decision.distribution or ()), complexity or 0.0])):
        raise RunError(
            "the model's output is not finite",
            where=f"sample {sample.key}, condition {condition.id}",
            hint="check the checkpoint, or set model.dtype to a type of more range (bfloat16, float32)",
        )


def _record(
    sample: PlanningSample,
    condition: Condition,
    decision: Decision | None = None,
    error: ImageError | None = None,
) -> Record:
    return Record(
        sample=sample.key,
        condition=condition.id,
        scene=sample.scene,
        convention=sample.convention.name,
        truth=sample.answer.strip(),
        answer=decision.answer if decision else None,
        error={"type": type(error).__name__, "message": str(error)} if error else None,
        trace=decision.trace if decision else None,
        readout_positions=decision.readout_positions if decision else 0,
        distribution=decision.distribution if decision else None,
        kind=sample.kind,
        survival=decision.survival if decision else None,
    )


def _timing(decision: Decision) -> dict[str, Any]:
    stages = {name: round(value, 4) for name, value in decision.milliseconds.items()}
    return {"milliseconds": stages, "peak_bytes": decision.peak_bytes}
