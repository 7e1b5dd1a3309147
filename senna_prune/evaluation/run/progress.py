"""What a user sees while a run is under way: the plan of the work, then a bar with the time left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from senna_prune.cli import counted
from senna_prune.evaluation.run.planning_set import PlanningSet
from senna_prune.evaluation.run.records import Condition
from senna_prune.evaluation.run.runner import Chunk, left_in
from senna_prune.task.labels import PLAN


def announce(
    console: Console,
    chosen: PlanningSet,
    conditions: Sequence[Condition],
    chunks: Sequence[Chunk],
    processes: int,
    folder: Path,
) -> None:
    """Say how much there is to do, and what is left out."""
    samples = chosen.samples
    total = len(samples) * len(conditions)
    left = sum(map(left_in, chunks))
    scenes = len({sample.scene for sample in samples})
    conventions = ", ".join(sorted({sample.convention.name for sample in samples}))
    lines = [
        f"{counted(len(samples), 'sample')} of {counted(scenes, 'scene')} ({conventions}) x "
        f"{counted(len(conditions), 'condition')} = {counted(total, 'decision')}",
        f"conditions: {', '.join(condition.id for condition in conditions)}",
        f"to do: {counted(left, 'decision')} ({total - left} done before) in {processes} process(es)",
        f"run folder: {folder}",
    ]
    kinds = Counter(sample.kind for sample in samples)
    if set(kinds) != {PLAN}:
        lines.insert(1, f"kinds: {listed(kinds)}")
    if left_out := chosen.left_out:
        others = f"{counted(left_out.total(), 'sample')} of other kinds than {', '.join(kinds)}"
        lines.insert(1, f"left out: {others} ({listed(left_out)}; see data.kinds)")
    for line in lines:
        console.print(line, highlight=False, markup=False)


class Meter:
    """Progress bar on standard error. After the `first` decisions it states the time the whole will take, for logs."""

    def __init__(self, total: int, first: int, *, shown: bool) -> None:
        self._total, self._first, self._shown = total, first, shown
        console = Console(stderr=True)
        columns = (
            TextColumn("deciding"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not shown or not console.is_terminal)
        self._task = self._progress.add_task("deciding", total=total)
        self._done = 0
        self._started = 0.0

    def __enter__(self) -> Meter:
        self._progress.start()
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, decisions: int) -> None:
        before, self._done = self._done, self._done + decisions
        self._progress.advance(self._task, decisions)
        if before < self._first <= self._done < self._total and self._shown:
            seconds = (time.perf_counter() - self._started) * (self._total / self._done - 1)
            self._progress.console.print(f"about {duration(seconds)} to go", highlight=False)


def listed(counts: Counter[str]) -> str:
    """`408 plan, 408 vru`."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
