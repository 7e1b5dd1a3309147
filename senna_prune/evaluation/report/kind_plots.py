"""Plots by kind of question: score against kept tokens, and what a complexity-adaptive method measures and keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from senna_prune.evaluation.report.kind_tables import kinds_of
from senna_prune.evaluation.report.plots import COLOURS, GREY, MARKERS, STYLE, Plot, line_style, new_figure
from senna_prune.evaluation.run.records import MAJORITY, UNPRUNED


def kind_plots(group: Mapping[str, Any], num_visual: int) -> list[Plot]:
    """The plots by kind of question of one convention; those without data are left out."""
    suffix = group["convention"].replace("=", "-").replace(",", "-")
    drawn = []
    if any(row["retention"] is not None for row in group["rows"]):
        figure = score_by_retention(group, num_visual)
        drawn.append(Plot(f"kinds_by_retention_{suffix}", "Score by kind against retention", figure, wide=True))
    adaptive = [row for row in group["rows"] if any(_complexity(entry) for entry in row["kinds"].values())]
    if adaptive:
        title = f"Complexity and kept tokens by kind ({adaptive[0]['row']})"
        drawn.append(Plot(f"kinds_by_complexity_{suffix}", title, complexity_by_kind(adaptive[0])))
    return drawn


@mpl.rc_context(STYLE)
def score_by_retention(group: Mapping[str, Any], num_visual: int) -> Figure:
    """One panel per kind: score with its 95 % interval against the measured share of tokens entering a layer."""
    kinds = kinds_of(group)
    labels: dict[str, list[Mapping[str, Any]]] = {}
    for row in group["rows"]:
        if row["retention"] is not None:
            labels.setdefault(row["label"], []).append(row)
    figure, grid = new_figure(3.6 * len(kinds) + 1.4, 3.8, nrows=1, ncols=len(kinds), squeeze=False)
    for axes, kind in zip(grid[0], kinds, strict=True):
        for number, (label, rows) in enumerate(labels.items()):
            points = sorted((row for row in rows if kind in row["kinds"]), key=lambda row: row["retention"])
            x = [100 * _share(row, kind, num_visual) for row in points]
            y = np.array([100 * row["kinds"][kind]["score"] for row in points])
            ends = [row["kinds"][kind]["score_interval"] or (row["kinds"][kind]["score"],) * 2 for row in points]
            errors = np.abs(100 * np.array(ends) - y[:, None]).T
            axes.errorbar(x, y, errors, capsize=2, elinewidth=0.8, **line_style(number, label))
        for row in group["rows"]:
            if row["retention"] is None and kind in row["kinds"]:
                style = {UNPRUNED: "-", MAJORITY: ":"}.get(row["label"], "--")
                y_line = 100 * row["kinds"][kind]["score"]
                axes.axhline(y_line, linestyle=style, color=GREY, linewidth=1.2, label=row["label"])
        axes.set_title(kind, fontsize=10)
        shares = [
            100 * _share(row, kind, num_visual) for rows in labels.values() for row in rows if kind in row["kinds"]
        ]
        axes.set_xlim(min(shares) - 4, max(shares) + 4)
        axes.set_xlabel("visual tokens entering a layer, %")
    grid[0][0].set_ylabel("score, %")
    handles = {
        label: handle for axes in grid[0] for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    grid[0][-1].legend(
        handles.values(), handles.keys(), loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8
    )
    return figure


@mpl.rc_context(STYLE)
def complexity_by_kind(row: Mapping[str, Any]) -> Figure:
    """Mutual information (least, quartiles, most) and tokens in the middle and the last layer, by kind, of one row."""
    found = {kind: row["kinds"][kind]["cost"] for kind in kinds_of(row) if _complexity(row["kinds"][kind])}
    figure, (left, right) = new_figure(7.5, 3.6, nrows=1, ncols=2)
    boxes = [
        dict(zip(("whislo", "q1", "med", "q3", "whishi"), cost["complexity"], strict=True)) for cost in found.values()
    ]
    grey: Any = {name: {"color": GREY} for name in ("boxprops", "whiskerprops", "capprops")}
    left.bxp(boxes, showfliers=False, medianprops={"color": COLOURS[0]}, **grey)
    left.set_ylabel("mutual information")
    for number, name in enumerate(("entering", "middle", "last")):
        y = [cost[f"tokens_{name}"] for cost in found.values()]
        label = {"entering": "mean over layers", "middle": "middle layer", "last": "last layer"}[name]
        right.plot(range(1, len(y) + 1), y, MARKERS[number], color=COLOURS[number], label=label)
    right.set(ylabel="visual tokens entering", ylim=(0, None))
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.set_xticks(range(1, len(found) + 1), list(found))
        axes.set_xlim(0.4, len(found) + 0.6)
    return figure


def _complexity(entry: Mapping[str, Any]) -> Sequence[float] | None:
    return entry["cost"]["complexity"] if entry["cost"] else None


def _share(row: Mapping[str, Any], kind: str, num_visual: int) -> float:
    cost = row["kinds"][kind]["cost"]
    return cost["tokens_entering"] / num_visual if cost else row["retention"]
