"""Distributions of a planning set: printed as tables, and plotted."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from senna_prune.files import write_whole
from senna_prune.nuscenes.conversion_counts import ConversionCounts
from senna_prune.task.labels import Command, Speed
from senna_prune.task.labels import Path as PathLabel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COMMANDS = [command.value for command in Command]
SPEEDS = [speed.value for speed in Speed]
PATHS = [path.value for path in PathLabel]

Pairs = Mapping[tuple[str, str], int]


def by_path(report: ConversionCounts, place: int) -> Counter[tuple[str, str]]:
    """Planning samples by (navigation command, answered path), or for place 1 by meta-action."""
    pairs: Counter[tuple[str, str]] = Counter()
    for plan, count in report.plans.items():
        pairs[plan[place], plan[2]] += count
    return pairs


def print_summary(report: ConversionCounts, console: Console) -> None:
    if report.plans:
        console.print(_table("navigation command by answered path", COMMANDS, PATHS, by_path(report, 0)))
        console.print(_table("answered speed by path", SPEEDS, PATHS, by_path(report, 1)))
        console.print(_speed_table(report.speeds))
    if report.motions:
        console.print(_table("objects by speed and path", SPEEDS, PATHS, report.motions))


def _table(title: str, rows: Sequence[str], columns: Sequence[str], counts: Pairs) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in (*columns, "all"):
        table.add_column(column, justify="right")
    for row in rows:
        numbers = [counts.get((row, column), 0) for column in columns]
        table.add_row(row, *(str(number or "") for number in numbers), str(sum(numbers)))
    totals = [sum(counts.get((row, column), 0) for row in rows) for column in columns]
    table.add_row("all", *map(str, totals), str(sum(totals)), style="bold")
    return table


def _speed_table(speeds: Mapping[int, int]) -> Table:
    table = Table("m/s", "samples", "", title="shown speed", title_justify="left")
    widest = max(speeds.values())
    for speed in range(min(speeds), max(speeds) + 1):
        count = speeds.get(speed, 0)
        table.add_row(str(speed), str(count), "#" * round(40 * count / widest))
    return table


def plot_summary(report: ConversionCounts, path: Path) -> None:
    """Plot the same distributions and of the keyframes left out.

    Raises:
        FileError: it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    commands, plans, speeds, skipped = figure.subplots(2, 2).flat
    _heat_map(commands, "navigation command by answered path", COMMANDS, PATHS, by_path(report, 0))
    _heat_map(plans, "answered speed by path", SPEEDS, PATHS, by_path(report, 1))
    speeds.bar(list(report.speeds), list(report.speeds.values()))
    speeds.set(title="shown speed", xlabel="m/s", ylabel="samples")
    reasons = [f"{kind}\n{reason}" for kind, reason in sorted(report.skipped)]
    skipped.barh(reasons, [report.skipped[key] for key in sorted(report.skipped)], height=0.4)
    skipped.set(title=f"left out, of {report.keyframes} keyframes", xlabel="keyframes")
    plot = io.BytesIO()
    figure.savefig(plot, dpi=100, bbox_inches="tight", format="png")
    write_whole(path, plot.getvalue())


def _heat_map(axes: Axes, title: str, rows: Sequence[str], columns: Sequence[str], counts: Pairs) -> None:
    shades = [[counts.get((row, column), 0) for column in columns] for row in rows]
    axes.imshow(shades, cmap="Blues", aspect="auto", alpha=0.6)
    axes.set_title(title)
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            if count := counts.get((row, column), 0):
                axes.text(x, y, str(count), ha="center", va="center")
