"""Visual tokens per camera before and after pruning, from a run's lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.box import SIMPLE
from rich.table import Column, Table

from senna_prune.errors import RunError
from senna_prune.evaluation.report.text import terminal
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.evaluation.score.decisions import require_consistent

HINT = "planning_set.jsonl or run.json is damaged: run the evaluation again"


def camera_table(path: Path) -> Table:
    """One row per method and retention; means over the samples of all conventions.

    Args:
        path: a run folder, finished or not.

    Raises:
        RunError: no run there, nothing decided yet, or its files contradict each other.
    """
    folder = RunFolder(path)
    info = folder.read_info()
    shape, row_of = info.shape, {condition.id: condition.row for condition in info.conditions}
    records = [record for record, _ in folder.read_lines().values()]
    require_consistent(records, info.conditions, shape)
    counts: dict[str, list[np.ndarray]] = {}
    for record in records:
        if record.trace:
            counts.setdefault(row_of[record.condition], []).append(np.array(record.trace.per_view))
    if not counts:
        raise RunError("nothing is decided yet", where=path, hint="let the evaluation go on")
    labels = folder.read_samples()[0].labels  # a run's samples have the same cameras
    if len(labels) != shape.views:
        raise RunError(f"{len(labels)} views are named, the model has {shape.views}", where=path, hint=HINT)
    title = "Visual tokens per view: mean over layers / entering the last layer"
    table = Table(
        "method", *(Column(terminal(label)) for label in labels), title=title, title_justify="left", box=SIMPLE
    )
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("before pruning", *(f"{shape.view_tokens:.1f} / {shape.view_tokens:.1f}" for _ in labels))
    for row, traces in counts.items():
        mean = np.mean(traces, axis=0)
        table.add_row(terminal(row), *(f"{a:.1f} / {b:.1f}" for a, b in zip(mean.mean(0), mean[-1], strict=True)))
    return table
