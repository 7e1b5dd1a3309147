"""A run's report, from its lines alone: `report.html` (self-contained), `report.md`, `results.csv`, `.tex`, plots."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from senna_prune.config import ScoringConfig
from senna_prune.errors import ConfigError, RunError
from senna_prune.evaluation.report import adaptation, comparisons, plots
from senna_prune.evaluation.report.breakdown_tables import breakdown_markdown, breakdowns_csv
from senna_prune.evaluation.report.browser import Pictures, browser_data, choose_samples
from senna_prune.evaluation.report.gallery import Failures, failures
from senna_prune.evaluation.report.kept_tokens import TokenMasks
from senna_prune.evaluation.report.kind_plots import kind_plots
from senna_prune.evaluation.report.kind_tables import kind_markdown, kinds_csv
from senna_prune.evaluation.report.paper import CAPTION, table3_rows
from senna_prune.evaluation.report.pivot import CAPTION as PIVOT_CAPTION
from senna_prune.evaluation.report.pivot import LATEX_CAPTION, pivot, pivot_latex, pivot_markdown
from senna_prune.evaluation.report.plots import Plot
from senna_prune.evaluation.report.scene_page import scene_page
from senna_prune.evaluation.report.show import describe_group
from senna_prune.evaluation.report.table import FULL, NOTES, csv_text, markdown_table, table_rows
from senna_prune.evaluation.report.text import markdown, printable
from senna_prune.evaluation.run.records import UNPRUNED, Record
from senna_prune.evaluation.run.run_folder import Lines, RunFolder, RunInfo
from senna_prune.evaluation.score.latency import summarise_run
from senna_prune.evaluation.score.results import all_scores
from senna_prune.files import check_output, write_whole
from senna_prune.task.labels import PLAN, VIEW_LABELS
from senna_prune.task.sample import PlanningSample

TEMPLATES = Path(__file__).parent / "templates"


def write_report(
    path: Path,
    out: Path | None = None,
    protocol: str | None = None,
    samples: int = 40,
    image_root: Path | None = None,
    intervals: bool = False,
) -> Path:
    """Score a run anew from its lines and report it; a partial run is reported as far as it goes.

    Args:
        path: the run folder.
        out: where the report goes; the run folder itself if absent.
        protocol: score by this protocol instead of the run's own.
        samples: pictures of at most so many samples go into the page.
        image_root: folder of the pictures. If absent, the run's own: of that, only files below the current folder are
            shown, as a run folder that came from somebody else could name any file of this machine.
        intervals: also print 95 % intervals in `results.tex`.

    Returns:
        Path of `report.html`.

    Raises:
        RunError: no run there, nothing decided yet, or its files contradict each other.
        ConfigError: a negative number of samples, or an `image_root` that is no folder.
        FileError: a file of the report cannot be written.
    """
    if samples < 0:
        raise ConfigError("a count cannot be negative", where="samples")
    if image_root is not None and not os.path.isdir(image_root):  # noqa: PTH112 - Path.is_dir fails for a long name
        raise ConfigError("no such folder", where=image_root, hint="name the folder the pictures lie in")
    folder, out = RunFolder(path), out or path
    info = folder.read_info()
    info = replace(info, name=printable(info.name))
    if image_root is None:
        pictures = Pictures(Path(info.settings["data"]["image_root"]), within=Path(os.path.realpath(Path.cwd())))
    else:
        pictures = Pictures(image_root, within=None)
    for name in ("plots/confusion.png", "results.csv", "results.tex", "report.md", "report.html"):
        check_output(out / name)
    lines = folder.read_lines()
    if not lines:
        raise RunError("nothing is decided yet", where=path, hint="let the evaluation go on")
    scoring = ScoringConfig(**info.settings["scoring"])
    if protocol:
        scoring = replace(scoring, protocol=protocol)
    records = [record for record, _ in lines.values()]
    samples_of_run = folder.read_samples()
    results = all_scores(records, samples_of_run, info, scoring, complete=info.status == "complete")
    timing = summarise_run(lines, info.conditions)
    lost = failures(samples_of_run, lines, info.conditions, results["protocol"])
    masks = TokenMasks.of_run(folder, info.shape)
    browser = {
        "appearance": masks and {"side": masks.side},
        "layers": info.shape.layers,
        "conditions": [condition.id for condition in info.conditions],
        "preferred": _preferred(info, lines),
        "samples": browser_data(
            choose_samples(samples_of_run, lines, samples, {entry["sample"] for entry in lost.shown}),
            lines,
            info.conditions,
            pictures,
            results["protocol"],
            masks,
        ),
        "failures": lost.shown,
    }
    of_run = {sample.key: sample for sample in samples_of_run}
    drawn = [draw_plots(group, timing, lines, info, of_run, results["protocol"]) for group in results["groups"]]
    by_kind = [kind_plots(group, info.shape.num_visual) for group in results.get("kinds", [])]
    for plot in (plot for group in (*drawn, *by_kind) for plot in group):
        write_whole(out / "plots" / f"{plot.name}.png", plots.to_png(plot.figure))
    write_whole(out / "results.csv", csv_text(results, timing))
    write_whole(out / "results.tex", latex_report(info, results, intervals))
    if by_kind:
        write_whole(out / "kinds.csv", kinds_csv(results))
    write_whole(out / "breakdowns.csv", breakdowns_csv(results))
    write_whole(out / "report.md", markdown_report(info, results, timing, drawn, by_kind))
    write_whole(out / "report.html", html_report(info, results, timing, drawn, browser, by_kind, lost))
    return out / "report.html"


def draw_plots(
    group: Mapping[str, Any],
    timing: Mapping[str, Any],
    lines: Lines,
    info: RunInfo,
    samples: Mapping[str, PlanningSample],
    protocol: str,
) -> list[Plot]:
    """The plots of one convention, the most important first; those without data are left out."""
    rows, suffix = group["rows"], group["convention"].replace("=", "-").replace(",", "-")
    by_row: dict[str, list[Record]] = {}
    row_of = {condition.id: condition.row for condition in info.conditions}
    for record, _ in lines.values():
        if record.trace and record.kind == PLAN and record.convention == group["convention"]:
            by_row.setdefault(row_of[record.condition], []).append(record)
    drawn: list[Plot] = []
    budgeted = [row for row in rows if row["retention"] is not None]
    if timing["rows"]:
        drawn.append(Plot("accuracy_by_time", "Accuracy against measured time", plots.accuracy_by_time(rows, timing)))
    if budgeted:
        figure = plots.accuracy_by_retention(rows, info.shape.num_visual)
        drawn.append(Plot("accuracy_by_retention", "Accuracy against retention", figure))
    adaptive = [row for row in budgeted if row["adaptation"]]
    adaptive = [row for row in adaptive if "mutual" in row["adaptation"]["measure"]] or adaptive
    if adaptive:
        name = _middle(adaptive)["row"]
        measure = _middle(adaptive)["adaptation"]["measure"]
        records = adaptation.measured(lines, info.conditions, name, group["convention"])
        curves = plots.retention_curves(records, info.shape.num_visual, measure)
        drawn.append(Plot("retention_curves", f"Retention curves of {name}, one per sample", curves))
        complexity = adaptation.complexity_plots(records, samples, protocol, measure)
        drawn.append(
            Plot("complexity", f"Complexity of the samples under {name}", complexity, wide=len(complexity.axes) > 1)
        )
    shown = [row["row"] for row in _one_retention(budgeted) if row["row"] in by_row]
    if shown:
        labels = next((sample.labels for sample in samples.values()), VIEW_LABELS)
        cameras = plots.tokens_per_camera({name: by_row[name] for name in shown}, info.shape.view_tokens, labels)
        drawn.append(Plot("tokens_per_camera", "Tokens per camera and layer", cameras, wide=True))
    compared = [row for row in rows if row["row"] == UNPRUNED] + ([_middle(adaptive or budgeted)] if budgeted else [])
    drawn.append(Plot("confusion", "Confusion matrices", plots.confusion_matrices(compared), wide=True))
    return [replace(plot, name=f"{plot.name}_{suffix}") for plot in drawn]


def _one_retention(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of every method at the middle retention."""
    return [row for row in rows if row["retention"] == _middle(rows)["retention"]] if rows else []


def _middle(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return sorted(rows, key=lambda row: row["retention"])[(len(rows) - 1) // 2]


def markdown_report(
    info: RunInfo,
    results: Mapping[str, Any],
    timing: Mapping[str, Any],
    drawn: Sequence[Sequence[Plot]],
    by_kind: Sequence[Sequence[Plot]] = (),
) -> str:
    """The report as Markdown."""
    parts = [f"# {markdown(info.name)}\n", *kind_markdown(results, timing)]
    parts += [_figure(plot) for figures in by_kind for plot in figures]
    for group, figures in zip(results["groups"], drawn, strict=True):
        parts.append(f"{describe_group(group, results)}.\n")
        parts += [pivot_markdown(pivot(group)), f"{PIVOT_CAPTION}\n"]
        for plot in figures[:1]:
            parts.append(_figure(plot))
        parts += adaptation.adaptation_markdown(group)
        parts += ["## Every row\n", markdown_table(table_rows(group, timing), FULL)]
        parts += [f"{note}\n" for note in NOTES]
        parts += comparisons.comparison_markdown(group)
        if laid := table3_rows(group, info.shape):
            parts += ["## Beside the paper\n", f"{CAPTION}\n", markdown_table(laid, tuple(laid[0]))]
        parts += [_figure(plot) for plot in figures[1:]]
        parts += ["## As the released script prints it (unpruned)\n", f"```\n{_reference(group)}\n```\n"]
    return "\n".join([*parts, *breakdown_markdown(results)])


def latex_report(info: RunInfo, results: Mapping[str, Any], intervals: bool = False) -> str:
    """A table of methods by retentions for every convention."""
    return "\n".join(
        pivot_latex(pivot(group), f"{info.name}: {describe_group(group, results)}. {LATEX_CAPTION}", intervals)
        for group in results["groups"]
    )


def _figure(plot: Plot) -> str:
    title = markdown(plot.title)
    return f"## {title}\n\n![{title}](plots/{plot.name}.png)\n"


def html_report(
    info: RunInfo,
    results: Mapping[str, Any],
    timing: Mapping[str, Any],
    drawn: Sequence[Sequence[Plot]],
    browser: Mapping[str, Any],
    by_kind: Sequence[Sequence[Plot]],
    lost: Failures,
) -> str:
    """The report as one page that loads nothing; `browser` is the data of its sample browser."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html.j2").render(
        info=info,
        results=results,
        groups=[
            {
                "description": describe_group(group, results),
                "failure": group["first_failure"],
                "pivot": pivot(group),
                "table": table_rows(group, timing),
                "paper": table3_rows(group, info.shape),
                "classes": [(row["row"], row["classes"]) for row in group["rows"]],
                "adaptation": adaptation.adaptation_rows(group),
                "warnings": adaptation.warnings(group),
                "comparisons": comparisons.comparison_rows(group),
                "plots": [(plot, Markup(plots.to_svg(plot.figure, plot.title))) for plot in figures],
                "reference": _reference(group),
                "stages": [
                    (row["row"], timing["rows"][row["row"]]) for row in group["rows"] if row["row"] in timing["rows"]
                ],
            }
            for group, figures in zip(results["groups"], drawn, strict=True)
        ],
        **scene_page(results, timing, by_kind, lost),
        columns=FULL,
        adaptation=adaptation,
        comparison_columns=comparisons.FULL,
        comparison_caption=comparisons.CAPTION,
        notes=NOTES,
        caption=CAPTION,
        pivot_caption=PIVOT_CAPTION,
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        js=Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),
        # A closing tag inside a string would end the script element.
        data=Markup(json.dumps(browser, separators=(",", ":")).replace("<", "\\u003c")),
    )


def _preferred(info: RunInfo, lines: Lines) -> str:
    """Condition whose tokens the browser shows first: one that adapts to the sample, else one that prunes at all."""
    adapting = {
        record.condition for record, _ in lines.values() if record.trace and record.trace.complexity is not None
    }
    best = max(info.conditions, key=lambda condition: (condition.id in adapting, condition.retention is not None))
    return best.id


def _reference(group: Mapping[str, Any]) -> str:
    return str(next(row for row in group["rows"] if row["row"] == UNPRUNED)["reference"]["summary"])
