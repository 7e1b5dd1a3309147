"""One shape for every table of a run, and its five renderers: terminal, HTML, Markdown, CSV and LaTeX.

Names and answers come from a run's files, so each renderer makes them safe for where they are shown.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import rich.table
from markupsafe import Markup, escape
from rich.box import SIMPLE
from rich.text import Text


@dataclass(frozen=True)
class Table:
    """Cells under the heads of their columns; the first column names the row.

    Attributes:
        title: above it; "" where a heading says it.
        columns: heads.
        rows: cells by head. Of a cell of several lines, and of `71.7 [63.3, 83.3]`, all but the first part is small.
        notes: what a reader must know, below it.
        style: class in HTML.
        anchor: id in HTML.
        folded: shut in HTML until a reader opens it.
        words: columns besides the first that hold words, which may be a configuration's own; others hold numbers.
        best: row and head of the cells that are bold in LaTeX.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]
    notes: tuple[str, ...] = ()
    style: str = "groups"
    anchor: str = ""
    folded: bool = False
    words: frozenset[str] = frozenset()
    best: frozenset[tuple[int, str]] = frozenset()

    @classmethod
    def of(cls, title: str, rows: Sequence[Mapping[str, Any]], *notes: str, **options: Any) -> Table:
        """A table of every field of its rows."""
        columns = tuple(dict.fromkeys(name for row in rows for name in row))
        return cls(title, columns, rows, notes, **{**options, "words": frozenset(options.get("words", ()))})

    def only(self, *columns: str) -> Table:
        """Those of some columns that its rows have."""
        return replace(self, columns=tuple(name for name in columns if any(name in row for row in self.rows)))


def to_terminal(table: Table) -> rich.table.Table:
    """For rich."""
    shown = rich.table.Table(title=terminal(table.title), title_justify="left", box=SIMPLE, pad_edge=False)
    for number, head in enumerate(table.columns):
        words = not number or head in table.words
        shown.add_column(terminal(head), overflow="fold", justify="left" if words else "right")
    for row in table.rows:
        shown.add_row(*(terminal(row.get(head, "")) for head in table.columns))
    return shown


def to_html(table: Table) -> Markup:
    """A table element; `positions` stand small below the row's name."""
    columns = [head for head in table.columns if head != "positions"]
    lines = [Markup("<tr>{}</tr>").format(_join('<th scope="col">{}</th>', columns))]
    for row in table.rows:
        cells = [str(row.get(head, "")) for head in columns]
        if row.get("positions", "-") != "-" and "positions" in table.columns:
            cells[0] += f"\n{row['positions']}"
        head, *values = [_small(cell) for cell in cells]
        lines.append(Markup('<tr><th scope="row">{}</th>{}</tr>').format(head, _join("<td>{}</td>", values)))
    anchor = Markup(' id="{}"').format(table.anchor) if table.anchor else ""
    text = '<div class="wide"{}><table class="{}">\n<thead>{}</thead>\n<tbody>\n{}\n</tbody></table></div>'
    return Markup(text).format(anchor, table.style, lines[0], Markup("\n").join(lines[1:]))


def _join(pattern: str, values: Sequence[object]) -> Markup:
    return Markup("").join(Markup(pattern).format(value) for value in values)


def _small(cell: str) -> Markup:
    main, *rest = re.split(r"\n| (?=\[)", cell)
    return escape(main) + _join("<small>{}</small>", rest)


def to_markdown(table: Table) -> str:
    """GitHub Markdown, with title and notes."""
    heads = [markdown(head).replace(r"\[95 %\]", "[95 %]") for head in table.columns]
    words = [not number or head in table.words for number, head in enumerate(table.columns)]
    lines = [f"| {' | '.join(heads)} |", f"|{'|'.join('---' if word else '---:' for word in words)}|"]
    for row in table.rows:
        cells = [str(row.get(head, "")).split("\n") for head in table.columns]
        texts = ["<br>".join(map(markdown, c) if word else c) for c, word in zip(cells, words, strict=True)]
        lines.append(f"| {' | '.join(texts)} |")
    title = [f"## {markdown(table.title)}\n"] if table.title else []
    return "\n".join([*title, *lines, "", *(f"{note}\n" for note in table.notes)])


def to_csv(table: Table) -> str:
    """Plain values; cells that a row lacks are empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, table.columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in table.rows)
    return out.getvalue()


def to_latex(table: Table, caption: str) -> str:
    """For the package booktabs: the best cells in bold, further lines of a cell in parentheses."""
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        f"\\caption{{{latex(caption)}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        "\\toprule",
        f"{' & '.join(map(latex, table.columns))} \\\\",
        "\\midrule",
    ]
    for number, row in enumerate(table.rows):
        texts = []
        for head in table.columns:
            main, *rest = map(latex, str(row.get(head, "")).split("\n"))
            bold = f"\\textbf{{{main}}}" if (number, head) in table.best else main
            texts.append(" ".join([bold, *(f"({part})" for part in rest)]))
        lines.append(f"{' & '.join(texts)} \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]) + "\n"


# Texts from a run's files ---------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """`text` on one line, with `?` for every character that cannot be printed or encoded."""
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)


def terminal(text: str) -> Text:
    """For rich, which would read `[name]` in a plain string as markup."""
    return Text("\n".join(map(printable, text.split("\n"))))


def markdown(text: str) -> str:
    """For Markdown: no HTML, no links and no end of a table cell comes from the text."""
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(printable(text), quote=False))


def csv_cell(value: object) -> object:
    """For CSV: a text that a spreadsheet would take for a formula starts with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@") else value


def latex(text: str) -> str:
    """For LaTeX: every character that it would obey becomes one that it prints."""
    return "".join(_LATEX.get(char, char) for char in printable(text))


_LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "\\": "\\textbackslash{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
}


# Numbers --------------------------------------------------------------------------------------------------------------


def hundredths(share: float | None, digits: int = 1) -> str:
    """A share in percent, without the sign."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def with_interval(share: float | None, bounds: Sequence[float] | None) -> str:
    """`71.7 [63.3, 83.3]`, in percent."""
    return f"{hundredths(share)} [{hundredths(bounds[0])}, {hundredths(bounds[1])}]" if bounds else hundredths(share)


def signed(difference: float, bounds: Sequence[float] | None) -> str:
    """`-12.3 [-18.0, -6.5]`, in points."""
    text = f"{100 * difference:+.1f}"
    return f"{text} [{100 * bounds[0]:+.1f}, {100 * bounds[1]:+.1f}]" if bounds else text


def number(value: float | None, bounds: Sequence[float] | None = None) -> str:
    """`0.105 [0.09, 0.12]`."""
    text = "-" if value is None else f"{value:.3g}"
    return f"{text} [{bounds[0]:.3g}, {bounds[1]:.3g}]" if bounds else text


def ends(name: str, bounds: Sequence[float] | None) -> dict[str, float | None]:
    """An interval as two fields of a CSV file."""
    low, high = bounds or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}
