"""The table a reader sees first: methods by retentions, accuracy with the ratio to the unpruned model below it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from senna_prune.evaluation.report.table import hundredths, letters, verdicts, with_interval
from senna_prune.evaluation.report.text import latex, markdown, terminal

UNBUDGETED = "no retention"
"""Column of rows that take none: `none`, `blind`, `majority`."""
CAPTION = "Planning accuracy in %, and below it the ratio to the unpruned model in %, by share of visual tokens kept."
LATEX_CAPTION = "Planning accuracy in % (ratio to the unpruned model in %), by share of visual tokens kept."


@dataclass(frozen=True)
class Cell:
    """One row of the results: accuracy (alone, and with its interval) and ratio in percent, whether no other row of its
    retention is better, and what the data says of it, in words and in letters."""

    accuracy: str
    bounded: str
    best: bool
    ratio: str
    verdicts: str
    letters: str


@dataclass(frozen=True)
class Pivot:
    """Methods by retentions.

    Attributes:
        columns: heads of the columns behind the method's.
        rows: label -> a cell for every column, None where the run has none.
        positions: label -> what positions kept tokens have, "" where nothing is chosen.
    """

    columns: tuple[str, ...]
    rows: dict[str, tuple[Cell | None, ...]]
    positions: dict[str, str]


def pivot(group: Mapping[str, Any]) -> Pivot:
    """The rows of one of `results["groups"]`, in their order; retentions ascend."""
    retentions = sorted({row["retention"] for row in group["rows"]}, key=lambda share: (share is not None, share or 0))
    best = {
        share: max(row["accuracy"] or 0 for row in group["rows"] if row["retention"] == share) for share in retentions
    }
    cells: dict[str, dict[float | None, Cell]] = {}
    for row in group["rows"]:
        cells.setdefault(row["label"], {})[row["retention"]] = Cell(
            hundredths(row["accuracy"]),
            with_interval(row["accuracy"], row["accuracy_interval"]),
            row["retention"] is not None and row["accuracy"] == best[row["retention"]],
            hundredths(row["ratio"]),
            verdicts(row["comparisons"]),
            letters(row["comparisons"]),
        )
    return Pivot(
        tuple(UNBUDGETED if share is None else f"{100 * share:g} %" for share in retentions),
        {label: tuple(given.get(share) for share in retentions) for label, given in cells.items()},
        {row["label"]: row["positions"] or "" for row in group["rows"]},
    )


def pivot_terminal(table: Pivot) -> Table:
    """For the terminal, with the letters of the marks."""
    shown = Table(box=SIMPLE, pad_edge=False)
    shown.add_column("method")
    for column in table.columns:
        shown.add_column(column, justify="right")
    for label, cells in table.rows.items():
        texts = [f"{cell.letters} {cell.accuracy}\n{cell.ratio}" if cell else "" for cell in cells]
        shown.add_row(terminal(label).append(f"\n{table.positions[label]}"), *texts)
    return shown


def pivot_markdown(table: Pivot) -> str:
    """GitHub Markdown."""
    lines = [f"| {' | '.join(('method', *table.columns))} |", f"|---|{'---:|' * len(table.columns)}"]
    for label, cells in table.rows.items():
        texts = [f"{c.accuracy}<br>{c.ratio}{f'<br>{c.verdicts}' if c.verdicts else ''}" if c else "" for c in cells]
        name = markdown(label) + (f"<br>{table.positions[label]}" if table.positions[label] else "")
        lines.append(f"| {' | '.join((name, *texts))} |")
    return "\n".join(lines) + "\n"


def pivot_latex(table: Pivot, caption: str, intervals: bool = False) -> str:
    """A LaTeX table for the package booktabs: the best accuracy of each retention in bold, ratios in parentheses."""
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        f"\\caption{{{latex(caption)}}}",
        f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        "\\toprule",
        f"{' & '.join(map(latex, ('method', *table.columns)))} \\\\",
        "\\midrule",
    ]
    for label, cells in table.rows.items():
        texts = [_latex_cell(cell, intervals) if cell else "" for cell in cells]
        name = latex(label) + (f" ({table.positions[label]})" if table.positions[label] else "")
        lines.append(f"{' & '.join((name, *texts))} \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]) + "\n"


def _latex_cell(cell: Cell, intervals: bool) -> str:
    accuracy = cell.bounded if intervals else cell.accuracy
    bold = f"\\textbf{{{accuracy}}}" if cell.best else accuracy
    return f"{bold} ({cell.ratio})"
