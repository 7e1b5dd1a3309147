"""Which plots a run's report has, and those of what a complexity-adaptive method measures and keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from senna_prune.evaluation.report import plots
from senna_prune.evaluation.report.kind_tables import kinds_of
from senna_prune.evaluation.report.plots import COLOURS, GREY, MARKERS, STYLE, Plot, new_figure
from senna_prune.evaluation.run.records import UNPRUNED, Condition, Record
from senna_prune.evaluation.run.run_folder import Lines, RunInfo
from senna_prune.evaluation.score.judge import is_right
from senna_prune.task.answers import parse_motions
from senna_prune.task.labels import PLAN, VIEW_LABELS
from senna_prune.task.sample import PlanningSample

MAX_CURVES = 300


def draw_plots(
    group: Mapping[str, Any],
    timing: Mapping[str, Any],
    lines: Lines,
    info: RunInfo,
    samples: Mapping[str, PlanningSample],
    protocol: str,
) -> list[Plot]:
    """The plots of one convention, the most important first; those without data are left out."""
    rows = group["rows"]
    by_row: dict[str, list[Record]] = {}
    row_of = {condition.id: condition.row for condition in info.conditions}
    for record, _ in lines.values():
        if record.trace and record.kind == PLAN and record.convention == group["convention"]:
            by_row.setdefault(row_of[record.condition], []).append(record)
    drawn: list[Plot] = []
    budgeted = [row for row in rows if row["retention"] is not None]
    score = "Accuracy" if group["labelled"] else "Agreement with unpruned"
    if timing["rows"]:
        figure = plots.accuracy_by_time(rows, timing, f"{score.lower()} of plans, %")
        drawn.append(Plot("accuracy_by_time", f"{score} against measured time", figure))
    if len({row["retention"] for row in budgeted}) > 1:
        figure = plots.score_by_retention({"": rows}, info.shape.num_visual, f"{score.lower()} of plans, %")
        drawn.append(Plot("accuracy_by_retention", f"{score} against retention", figure))
    adaptive = [row for row in budgeted if row["adaptation"]]
    adaptive = [row for row in adaptive if "mutual" in row["adaptation"]["measure"]] or adaptive
    if adaptive:
        name = _middle(adaptive)["row"]
        measure = _middle(adaptive)["adaptation"]["measure"]
        records = measured(lines, info.conditions, name, group["convention"])
        curves = retention_curves(records, info.shape.num_visual, measure)
        drawn.append(Plot("retention_curves", f"Retention curves of {name}, one per sample", curves))
        complexity = complexity_plots(records, samples, protocol, measure)
        title = f"Complexity of the samples under {name}"
        drawn.append(Plot("complexity", title, complexity, wide=len(complexity.axes) > 1))
    middle = _middle(budgeted)["retention"] if budgeted else None
    shown = [row["row"] for row in budgeted if row["retention"] == middle and row["row"] in by_row]
    if shown:
        labels = next((sample.labels for sample in samples.values()), VIEW_LABELS)
        cameras = plots.tokens_per_camera({name: by_row[name] for name in shown}, info.shape.view_tokens, labels)
        drawn.append(Plot("tokens_per_camera", "Tokens per camera and layer", cameras, wide=True))
    compared = [row for row in rows if row["row"] == UNPRUNED] + ([_middle(adaptive or budgeted)] if budgeted else [])
    if group["labelled"]:
        drawn.append(Plot("confusion", "Confusion matrices", plots.confusion_matrices(compared), wide=True))
    return _named(drawn, group)


def draw_kind_plots(group: Mapping[str, Any], num_visual: int) -> list[Plot]:
    """The plots by kind of question of one convention; those without data are left out."""
    drawn = []
    if len({row["retention"] for row in group["rows"]} - {None}) > 1:
        panels = {
            kind: [{**row, **row["kinds"][kind]} for row in group["rows"] if kind in row["kinds"]]
            for kind in kinds_of(group)
        }
        figure = plots.score_by_retention(panels, num_visual, "score, %")
        drawn.append(Plot("kinds_by_retention", "Score by kind against retention", figure, wide=True))
    adaptive = [row for row in group["rows"] if any(_complexity(entry) for entry in row["kinds"].values())]
    if adaptive:
        title = f"Complexity and kept tokens by kind ({adaptive[0]['row']})"
        drawn.append(Plot("kinds_by_complexity", title, complexity_by_kind(adaptive[0])))
    return _named(drawn, group)


def _named(drawn: Sequence[Plot], group: Mapping[str, Any]) -> list[Plot]:
    suffix = group["convention"].replace("=", "-").replace(",", "-")
    return [replace(plot, name=f"{plot.name}_{suffix}") for plot in drawn]


def _middle(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """A row of the middle retention."""
    return sorted(rows, key=lambda row: row["retention"])[(len(rows) - 1) // 2]


def measured(lines: Lines, conditions: Sequence[Condition], row: str, convention: str) -> list[Record]:
    """Decisions of a row under one convention, of all kinds of questions, whose complexity is known."""
    ids = {condition.id for condition in conditions if condition.row == row}
    return [
        record
        for record, _ in lines.values()
        if record.condition in ids and record.convention == convention
        if record.trace and record.trace.complexity is not None
    ]


@mpl.rc_context(STYLE)
def complexity_plots(
    records: Sequence[Record], samples: Mapping[str, PlanningSample], protocol: str, measure: str
) -> Figure:
    """Complexity of a method's plans by whether they were right, and, where the run's samples tell, by kind of question
    and against the number of annotated objects near the car.

    Args:
        records: see `measured`.
        samples: of the run, by key; `motion` questions name the objects annotated near the car.
        protocol: says when an answer is right.
        measure: what complexity is, in words.
    """
    known = [record for record in records if record.sample in samples]
    values = {record.sample: record.trace.complexity for record in known if record.trace}
    plans = [record for record in known if samples[record.sample].kind == "plan"]
    words = {False: "wrong", True: "right", None: "any"}
    answered: dict[str, list[Any]] = {word: [] for word in words.values()}
    for record in plans:
        right = is_right(PLAN, record.truth, record.answer, protocol)
        answered[words[right]].append(values[record.sample])
    kinds: dict[str, list[Any]] = {}
    for key, value in values.items():
        kinds.setdefault(samples[key].kind, []).append(value)
    near = objects_near(samples.values())
    counted = [(near[token], values[r.sample]) for r in plans if (token := samples[r.sample].token) in near]
    panels = 1 + (len(kinds) > 1) + bool(counted)
    figure, grid = new_figure(3.8 * panels + 1, 3.6, ncols=panels, squeeze=False)
    axes = iter(grid[0])
    _boxes(next(axes), answered, "answer")
    if len(kinds) > 1:
        _boxes(next(axes), kinds, "question")
    if counted:
        last = next(axes)
        last.scatter(*zip(*counted, strict=True), s=10, alpha=0.5, color=COLOURS[0])
        last.set(xlabel="annotated objects near the car")
    grid[0][0].set_ylabel(measure)
    return figure


def objects_near(samples: Any) -> Counter[str]:
    """How many objects the motion questions about a keyframe name, by its token, where there are such questions."""
    found = Counter[str]()
    for sample in samples:
        if sample.kind == "motion":
            found[sample.token] += len(parse_motions(sample.answer).objects)
    return found


def _boxes(axes: Any, values: Mapping[str, Sequence[Any]], label: str) -> None:
    """A box per name, with every sample as a point beside its middle."""
    shown = {name: numbers for name, numbers in values.items() if numbers}
    grey = {"color": GREY}
    lines: Any = {"boxprops": grey, "whiskerprops": grey, "capprops": grey, "medianprops": {"color": COLOURS[0]}}
    axes.boxplot(list(shown.values()), showfliers=False, **lines)
    for place, numbers in enumerate(shown.values(), start=1):
        beside = place + 0.16 * np.cos(np.arange(len(numbers)) * 2.4)
        axes.scatter(beside, numbers, s=6, alpha=0.4, color=GREY)
    axes.set_xticks(range(1, len(shown) + 1), [f"{name} ({len(numbers)})" for name, numbers in shown.items()])
    axes.set(xlabel=label)


@mpl.rc_context(STYLE)
def retention_curves(records: Sequence[Record], num_visual: int, measure: str) -> Figure:
    """One curve per sample: share of tokens entering each layer, coloured by the complexity (the paper's Figure 2
    on this data); `measure` names it."""
    figure, axes = new_figure(7.5, 4.2)
    step = -(-len(records) // MAX_CURVES)
    shown = sorted(records[::step], key=lambda record: record.trace.complexity)  # type: ignore[union-attr, arg-type, return-value]
    values = [record.trace.complexity for record in shown if record.trace]
    scale = mpl.colors.Normalize(min(values), max(values))  # type: ignore[type-var]
    colours = mpl.colormaps["plasma"]
    for record, value in zip(shown, values, strict=True):
        shares = [100 * count / num_visual for count in record.trace.entering]  # type: ignore[union-attr]
        axes.plot(shares, color=colours(0.9 * scale(value)), linewidth=0.8, alpha=0.7)  # type: ignore[arg-type]
    # The last tenth of the map is too pale on white.
    bar = figure.colorbar(
        mpl.cm.ScalarMappable(scale, mpl.colors.ListedColormap(colours(np.linspace(0, 0.9, 256)))), ax=axes
    )
    bar.set_label(measure)
    axes.set(xlabel="decoder layer", ylabel="visual tokens entering it, %", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
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
