"""Prints the results of a run in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from senna_prune.cli import counted
from senna_prune.evaluation.report import adaptation, comparisons
from senna_prune.evaluation.report.kind_tables import TITLE, counts, notes, overview
from senna_prune.evaluation.report.paper import CAPTION, table3_rows
from senna_prune.evaluation.report.pivot import CAPTION as PIVOT_CAPTION
from senna_prune.evaluation.report.pivot import pivot, pivot_terminal
from senna_prune.evaluation.report.table import (
    FRONT,
    LEGEND,
    NARROW,
    NOTES,
    WIDE,
    WIDE_COLUMNS,
    table_rows,
    terminal_table,
)
from senna_prune.evaluation.report.text import printable
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.evaluation.score.latency import accuracy_and_time, pareto_front


def show_results(folder: RunFolder, console: Console) -> None:
    """For every convention: methods by retentions, the Pareto front of accuracy and time, and everything row by row;
    where the paper has the same rows, its ratios beside ours."""
    info, results, timing = folder.read_info(), folder.read_json("results.json"), folder.read_json("timing.json")
    for group in results.get("kinds", []):
        title = f"{info.name}: {TITLE}, convention {group['convention']}: {counts(group)}"
        console.print(printable(title), highlight=False, markup=False)
        rows = overview(group, intervals=False)
        console.print(terminal_table("By kind of question", rows, tuple(rows[0])))
        for note in notes(group):
            console.print(note, highlight=False, markup=False)
    for group in results["groups"]:
        title = printable(f"{info.name}: {describe_group(group, results)}")
        for line in (title, PIVOT_CAPTION, LEGEND):
            console.print(line, highlight=False, markup=False)
        console.print(pivot_terminal(pivot(group)))
        if adapting := adaptation.adaptation_rows(group):
            console.print(terminal_table(adaptation.TITLE, adapting, adaptation.COLUMNS))
            for line in (adaptation.CAPTION, *map(printable, adaptation.warnings(group))):
                console.print(line, highlight=False, markup=False)
        rows = table_rows(group, timing)
        measured = accuracy_and_time(group["rows"], timing)
        by_name = dict(zip((row["row"] for row in group["rows"]), rows, strict=True))
        if front := [by_name[name] for name in pareto_front(measured)]:
            console.print(terminal_table("Fastest for their accuracy (Pareto front)", front, FRONT))
        columns = WIDE if console.width >= WIDE_COLUMNS else NARROW
        console.print(terminal_table("Every row", rows, columns))
        if compared := comparisons.comparison_rows(group):
            console.print(terminal_table("Every comparison", compared, comparisons.NARROW))
            console.print(comparisons.CAPTION, highlight=False, markup=False)
        if laid := table3_rows(group, info.shape):
            console.print(terminal_table("Beside the paper", laid, tuple(laid[0])))
            console.print(CAPTION, highlight=False, markup=False)
    for note in NOTES if results["groups"] else ():
        console.print(note, highlight=False, markup=False)
    console.print(printable(f"Files: {folder.path}"), highlight=False, markup=False, soft_wrap=True)


def describe_group(group: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """One line above every table: how many samples, of what convention, scored how."""
    failed = f", {group['failed']} with unusable pictures ({results['on_error']})" if group["failed"] else ""
    partial = "PARTIAL, " if results["status"] == "partial" else ""
    size = f"{counted(group['samples'], 'sample')} of {counted(group['scenes'], 'scene')}"
    return f"{partial}{size}, convention {group['convention']}, protocol {results['protocol']}{failed}"
