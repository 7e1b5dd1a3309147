"""Plots of scores: drawn once, as PNG for documents and as SVG whose text takes the colour of the page around it."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from senna_prune.evaluation.run.records import MAJORITY, RANDOM, UNPRUNED, Record
from senna_prune.evaluation.score.latency import accuracy_and_time, pareto_front
from senna_prune.evaluation.score.metrics import NOT_PARSED, PATHS, SPEEDS
from senna_prune.task.labels import VIEW_LABELS

CONTROLS = (RANDOM, "uniform")
COLOURS = ("#3b82d6", "#e0762f", "#3a9d5d", "#c8528a", "#8a6fd1", "#a8862a", "#d64545", "#2fa3a3")
"""Readable on white and on almost black pages."""
MARKERS = "osD^vP*X"
GREY = "#8a8a8a"
INK = "#123457"
"""Placeholder: `to_svg` replaces it by `currentColor`, which matplotlib does not know."""
STYLE: Any = {
    "svg.fonttype": "none",
    # Labels are names, not formulas: `$x^$y` is one.
    "text.parse_math": False,
    "svg.hashsalt": "senna_prune",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Plot:
    """One figure: file name without ending, title, the figure, and whether it needs the page's whole width."""

    name: str
    title: str
    figure: Figure
    wide: bool = False


@mpl.rc_context(STYLE)
def to_png(figure: Figure) -> bytes:
    """PNG on white."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=144, facecolor="white", metadata={"Software": None})
    return out.getvalue()


@mpl.rc_context(STYLE)
def to_svg(figure: Figure, title: str) -> str:
    """SVG element to stand inside an HTML page, transparent, with the page's own text colour."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)


def new_figure(width: float, height: float, **grid: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**grid)


@mpl.rc_context(STYLE)
def score_by_retention(groups: Mapping[str, Rows], num_visual: int, ylabel: str) -> Figure:
    """A panel per kind of question: score with its 95 % interval against the measured share of tokens entering a layer;
    rows of which no decision left a trace stand at the share that was asked for.

    Args:
        groups: title of the panel -> rows with `score`, `score_interval` and `cost`.
        num_visual: visual tokens of a prompt.
        ylabel: of the scores.
    """
    figure, grid = new_figure(3.6 * len(groups) + 3, 4.2, nrows=1, ncols=len(groups), squeeze=False)
    for axes, (title, rows) in zip(grid[0], groups.items(), strict=True):
        labels = _by_label(rows)
        for number, (label, points) in enumerate(labels.items()):
            shares = [
                row["cost"]["tokens_entering"] / num_visual if row["cost"] else row["retention"] for row in points
            ]
            # A small offset keeps intervals at the same retention apart.
            x = 100 * np.array(shares) + 0.25 * (number - len(labels) / 2)
            y = np.array([100 * row["score"] for row in points])
            bounds = np.array([row["score_interval"] or (row["score"],) * 2 for row in points])
            errors = np.abs(100 * bounds - y[:, None]).T
            axes.errorbar(x, y, errors, capsize=2, elinewidth=0.8, **line_style(number, label))
        for row in rows:
            if row["retention"] is None:
                style = {UNPRUNED: "-", MAJORITY: ":"}.get(row["label"], "--")
                axes.axhline(100 * row["score"], linestyle=style, color=GREY, linewidth=1.2, label=row["label"])
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("visual tokens entering a layer, %")
    grid[0][0].set_ylabel(ylabel)
    _legend(grid[0][-1])
    return figure


@mpl.rc_context(STYLE)
def accuracy_by_time(rows: Rows, timing: Mapping[str, Any], ylabel: str) -> Figure:
    """Planning accuracy against the measured median time of a decision; a line joins the rows that no other beats in
    both."""
    figure, axes = new_figure(7.5, 4.2)
    timed = [row for row in rows if row["row"] in timing["rows"]]
    unbudgeted = [row for row in timed if row["retention"] is None]
    groups = [*_by_label(timed).items(), *((row["label"], [row]) for row in unbudgeted)]
    for number, (label, points) in enumerate(groups):
        x = [timing["rows"][row["row"]]["p50"]["total"] for row in points]
        axes.plot(x, [100 * row["score"] for row in points], **line_style(number, label))
        for row, at in zip(points, x, strict=True):
            if row["retention"] is not None:
                text = f"{100 * row['retention']:g}"
                axes.annotate(text, (at, 100 * row["score"]), (4, 3), textcoords="offset points", fontsize=7)
    measured = accuracy_and_time(rows, timing)
    front = [measured[name] for name in pareto_front(measured)]
    times, shares = [time for time, _ in front], [100 * share for _, share in front]
    style: Any = {"color": GREY, "linewidth": 5, "alpha": 0.3, "zorder": 0, "label": "Pareto front"}
    axes.step(times, shares, where="post", **style)
    axes.set(xlabel="measured time per decision, ms (median; everything included)", ylabel=ylabel)
    _legend(axes)
    return figure


@mpl.rc_context(STYLE)
def tokens_per_camera(
    records_by_row: Mapping[str, Sequence[Record]], view_tokens: int, labels: Sequence[str] = VIEW_LABELS
) -> Figure:
    """Mean share of each camera's tokens that enters each layer, one panel per method; `labels` name the views."""
    count = len(records_by_row)
    columns = min(4, count)
    lines = -(-count // columns)
    figure, grid = new_figure(max(8, 2.7 * columns + 1), 2 * lines + 0.6, nrows=lines, ncols=columns, squeeze=False)
    image: Any = None
    for axes, (name, records) in zip(grid.flat, records_by_row.items(), strict=False):
        mean = np.mean([record.trace.per_view for record in records if record.trace], axis=0).T
        image = axes.imshow(100 * mean / view_tokens, aspect="auto", cmap="viridis", vmin=0, vmax=100)
        axes.set_title(name, fontsize=9)
        axes.set_yticks(range(mean.shape[0]), labels[: mean.shape[0]], fontsize=7)
        axes.set_xlabel("layer", fontsize=8)
        axes.grid(False)
    for axes in list(grid.flat)[count:]:
        axes.set_axis_off()
    figure.colorbar(image, ax=grid, label="tokens entering, %")
    return figure


@mpl.rc_context(STYLE)
def confusion_matrices(rows: Rows) -> Figure:
    """Speed and path confusion, a line of two panels per row; cells hold counts, colours shares of the true class."""
    figure, grid = new_figure(9.5, 3.4 * len(rows), nrows=len(rows), ncols=2, squeeze=False)
    for line, row in zip(grid, rows, strict=True):
        for axes, half, names in zip(line, ("speed", "path"), (SPEEDS, PATHS), strict=True):
            counts = np.array(row[f"{half}_confusion"])
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
            for (i, j), value in np.ndenumerate(counts):
                if value:
                    # On a cell of its own colour, page-coloured text would vanish in one of the themes.
                    axes.text(j, i, value, ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black")
            axes.set_xticks(range(len(names) + 1), [*names, NOT_PARSED], rotation=30, ha="right", fontsize=7)
            axes.set_yticks(range(len(names)), names, fontsize=7)
            axes.set_title(f"{row['row']}: {half} (rows true, columns answered)", fontsize=9)
            axes.grid(False)
    return figure


def _by_label(rows: Rows) -> dict[str, list[Mapping[str, Any]]]:
    labels: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["retention"] is not None:
            labels.setdefault(row["label"], []).append(row)
    return {label: sorted(points, key=lambda row: row["retention"]) for label, points in labels.items()}


def line_style(number: int, label: str) -> dict[str, Any]:
    """How a method's line is drawn, the same in every plot; controls are grey."""
    colour = GREY if label in (*CONTROLS, UNPRUNED, "blind") else COLOURS[number % len(COLOURS)]
    return {
        "color": colour,
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": "--" if label in CONTROLS else "-",
        "markersize": 5,
        "linewidth": 1.4,
        "label": label,
    }


def _legend(axes: Axes) -> None:
    lines = {label: line for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    axes.legend(lines.values(), lines.keys(), loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
