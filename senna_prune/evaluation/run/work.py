"""What there is to do: which samples are decided together, under which conditions, and what is there already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from senna_prune.cli import counted
from senna_prune.evaluation.run.planning_set import PlanningSet
from senna_prune.evaluation.run.records import Condition, Record
from senna_prune.evaluation.run.run_folder import Lines
from senna_prune.evaluation.run.system import Task
from senna_prune.task.labels import PLAN
from senna_prune.task.sample import PlanningSample

Chunk = tuple[Task, ...]
"""Samples that are decided together. Which ones follows from the planning set and the batch size alone, never from what
is left to do: the last digits of a sample's numbers depend on the other samples of its batch. A task without conditions
is done; it is in the batch only so that the others get the same numbers as in an uninterrupted run."""


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

    Kept tokens are recorded for `kept_samples` keyframes spread over the set, as neighbours look alike. Lines that were
    made without them stay as they are.
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


def _is_done(line: tuple[Record, object] | None, taken: float | None) -> bool:
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


def announce(
    console: Console,
    chosen: PlanningSet,
    conditions: Sequence[Condition],
    chunks: Sequence[Chunk],
    processes: int,
    folder: Path,
    each: bool = False,
) -> None:
    """Say how much there is to do, and what is left out; `each`: also by condition."""
    samples = chosen.samples
    total = len(samples) * len(conditions)
    left = Counter(condition.id for chunk in chunks for task in chunk for condition in task.conditions)
    scenes = len({sample.scene for sample in samples})
    conventions = ", ".join(sorted({sample.convention.name for sample in samples}))
    lines = [
        f"{counted(len(samples), 'sample')} of {counted(scenes, 'scene')} ({conventions}) x "
        f"{counted(len(conditions), 'condition')} = {counted(total, 'decision')}",
        f"conditions: {', '.join(condition.id for condition in conditions)}",
        f"to do: {counted(left.total(), 'decision')} ({total - left.total()} done before) in {processes} process(es)",
        f"run folder: {folder}",
    ]
    kinds = Counter(sample.kind for sample in samples)
    if set(kinds) != {PLAN}:
        lines.insert(1, f"kinds: {_listed(kinds)}")
    if left_out := chosen.left_out:
        others = f"{counted(left_out.total(), 'sample')} of other kinds than {', '.join(kinds)}"
        lines.insert(1, f"left out: {others} ({_listed(left_out)}; see data.kinds)")
    if each:
        there = {condition.id: len(samples) - left[condition.id] for condition in conditions}
        lines += [f"  {name}: {count} there, {left[name]} to make" for name, count in there.items()]
    for line in lines:
        console.print(line, highlight=False, markup=False)


def _listed(counts: Counter[str]) -> str:
    """`408 plan, 408 vru`."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())
