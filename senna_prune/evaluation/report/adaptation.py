"""Whether the retention curve follows the sample, as a table, as warnings, and as plots of complexity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from senna_prune.evaluation.report.comparisons import signed_with_interval
from senna_prune.evaluation.report.plots import COLOURS, GREY, STYLE, new_figure
from senna_prune.evaluation.report.table import hundredths, markdown_table
from senna_prune.evaluation.report.text import markdown
from senna_prune.evaluation.run.records import Condition, Record
from senna_prune.evaluation.run.run_folder import Lines
from senna_prune.evaluation.score.metrics import is_correct
from senna_prune.task.sample import PlanningSample
from senna_prune.task.scene_answers import parse_motions

TITLE = "Does the retention curve follow the sample?"
COLUMNS = (
    *("method", "measure", "complexity", "slope", "clamped %", "tokens apart"),
    *("gain over shuffled [95 %]", "gain over constant [95 %]"),
)
CAPTION = (
    "Complexity: minimum / quartiles / maximum over the samples. Slope: of the curve (Eq. 8), least to greatest; "
    "clamped: samples whose slope is 0. Tokens apart: how far the tokens of two samples in a layer differ, mean over "
    "layers and pairs. Gain of adapting, in points: the accuracy less that of the same method with another sample's "
    "complexity (shuffled), or with the mean complexity for all (constant)."
)


def adaptation_rows(group: Mapping[str, Any]) -> list[dict[str, str]]:
    """Cells of `COLUMNS` for every row of one of `results["groups"]` whose schedule depends on the sample."""
    return [_cells(row, row["adaptation"]) for row in group["rows"] if row["adaptation"]]


def warnings(group: Mapping[str, Any]) -> list[str]:
    """What to say of rows that do not adapt, once for all rows with the same reason."""
    rows: dict[str, list[str]] = {}
    for row in group["rows"]:
        if row["adaptation"] and (reason := row["adaptation"]["warning"]):
            rows.setdefault(reason, []).append(row["row"])
    return [f"AutoPrune does not adapt here ({', '.join(names)}): {reason}" for reason, names in rows.items()]


def adaptation_markdown(group: Mapping[str, Any]) -> list[str]:
    """The table and the warnings; nothing where no schedule depends on the sample."""
    if not (rows := adaptation_rows(group)):
        return []
    table = [f"## {TITLE}\n", markdown_table(rows, COLUMNS), f"{CAPTION}\n"]
    return table + [f"**{markdown(warning)}.**\n" for warning in warnings(group)]


def _cells(row: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, str]:
    least, *quartiles, most = (f"{value:.3g}" for value in found["complexity"])
    gains = {c["kind"]: signed_with_interval(c) for c in row["comparisons"]}
    return {
        "method": row["row"],
        "measure": found["measure"],
        "complexity": f"{least} / {', '.join(quartiles)} / {most}",
        "slope": "-" if found["slope"] is None else f"{found['slope'][0]:.3g} to {found['slope'][1]:.3g}",
        "clamped %": hundredths(found["clamped"]),
        "tokens apart": f"{found['spread']:.1f}",
        "gain over shuffled [95 %]": gains.get("shuffled", "-"),
        "gain over constant [95 %]": gains.get("static", "-"),
    }


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
    answered: dict[str, list[Any]] = {"wrong": [], "right": []}
    for record in plans:
        answered["right" if is_correct(record.truth, record.answer, protocol) else "wrong"].append(
            values[record.sample]
        )
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
