"""Prints a run in the terminal: its results, and its visual tokens by camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from senna_prune.errors import RunError
from senna_prune.evaluation.report import comparison_tables, kind_tables, objects, paper, plan_tables
from senna_prune.evaluation.report.table import Table, printable, to_terminal
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.evaluation.score.decisions import require_consistent


def show_results(folder: RunFolder, console: Console) -> None:
    """For every convention: methods by retentions, the Pareto front of accuracy and time, and everything row by row;
    where the paper has the same rows, its ratios beside ours."""
    info, results, timing = folder.read_info(), folder.read_json("results.json"), folder.read_json("timing.json")

    def say(*lines: str) -> None:
        for line in map(printable, lines):
            console.print(line, highlight=False, markup=False)

    def show(table: Table) -> None:
        if table.rows:
            console.print(to_terminal(table))
            say(*table.notes)

    for group in results.get("kinds", []):
        title = f"{kind_tables.TITLE}, convention {group['convention']}"
        say(f"{info.name}: {title}: {kind_tables.counts(group)}")
        show(kind_tables.overview(group, intervals=False))
    for group in results["groups"]:
        say(f"{info.name}: {plan_tables.describe_group(group, results)}", *comparison_tables.in_words(group))
        say(plan_tables.LEGEND)
        show(plan_tables.pivot(group, marks="letters"))
        show(plan_tables.adaptation(group))
        say(*plan_tables.warnings(group))
        show(plan_tables.front(group, timing))
        columns = plan_tables.WIDE if console.width >= plan_tables.WIDE_COLUMNS else plan_tables.NARROW
        show(plan_tables.every_row(group, timing).only(*columns))
        show(comparison_tables.every_comparison(group).only(*comparison_tables.COMPARED))
        show(comparison_tables.compared(comparison_tables.BEST, group["pairs"]).only(*comparison_tables.COMPARED))
        show(comparison_tables.damage(group))
        show(comparison_tables.first_told(group))
        show(paper.beside_the_paper(group, info.shape))
    if dropped := results.get("objects"):
        say(objects.counts(dropped))
        show(objects.overview(dropped, intervals=False))


def camera_table(path: Path) -> Table:
    """Visual tokens per camera before and after pruning: one row per method and retention, means over the samples.

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
        hint = "planning_set.jsonl or run.json is damaged: run the evaluation again"
        raise RunError(f"{len(labels)} views are named, the model has {shape.views}", where=path, hint=hint)
    means = {"before pruning": np.full((1, shape.views), shape.view_tokens)}
    means |= {row: np.mean(traces, axis=0) for row, traces in counts.items()}
    rows = [
        {"method": row} | {n: f"{a:.1f} / {b:.1f}" for n, a, b in zip(labels, mean.mean(0), mean[-1], strict=True)}
        for row, mean in means.items()
    ]
    return Table.of("Visual tokens per view: mean over layers / entering the last layer", rows)
