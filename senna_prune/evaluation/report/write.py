"""A run's report, from its lines alone: `report.html` (self-contained), `report.md`, `results.csv`, `.tex`, plots."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from senna_prune.config import ScoringConfig
from senna_prune.errors import ConfigError, RunError
from senna_prune.evaluation.report import comparison_tables, kind_tables, objects, plan_tables, plots
from senna_prune.evaluation.report.browser import Pictures, browser_data, choose_samples, failures
from senna_prune.evaluation.report.kept_tokens import TokenMasks
from senna_prune.evaluation.report.object_images import draw_dropped
from senna_prune.evaluation.report.paper import beside_the_paper
from senna_prune.evaluation.report.plots import Plot
from senna_prune.evaluation.report.run_plots import draw_kind_plots, draw_plots
from senna_prune.evaluation.report.table import Table, markdown, printable, to_csv, to_html, to_latex, to_markdown
from senna_prune.evaluation.run.records import UNPRUNED
from senna_prune.evaluation.run.run_folder import Lines, RunFolder, RunInfo
from senna_prune.evaluation.score.comparisons import against as against_row
from senna_prune.evaluation.score.decisions import Questions, questions_of
from senna_prune.evaluation.score.latency import summarise_run
from senna_prune.evaluation.score.results import results_of
from senna_prune.files import check_output, write_whole
from senna_prune.task.labels import PLAN

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Text:
    """A part of the report: a `heading`, a `lead`, a `note`, a `warning`, or text `printed` as it is."""

    kind: str
    text: str


Part = Text | Table | Plot


def write_report(
    path: Path,
    out: Path | None = None,
    protocol: str | None = None,
    samples: int = 40,
    image_root: Path | None = None,
    intervals: bool = False,
    against: str | None = None,
    baseline: Path | None = None,
) -> Path:
    """Score a run anew from its lines and report it; a partial run is reported as far as it goes.

    Args:
        path: the run folder.
        out: where the report goes; the run folder itself if absent.
        protocol: score by this protocol instead of the run's own.
        samples: images of at most so many samples go into the page.
        image_root: folder of the images. If absent, the run's own: of that, only files below the current folder are
            shown, as a run folder that came from somebody else could name any file of this machine.
        intervals: also print 95 % intervals in `results.tex`.
        against: also compare every row with this one.
        baseline: another run of the same questions; `against` is then one of its rows, if absent that of the same name.

    Returns:
        Path of `report.html`.

    Raises:
        RunError: no run there, nothing decided yet, its files contradict each other, or nothing of `against` and
            `baseline` can be compared.
        ConfigError: a negative number of samples, or an `image_root` that is no folder.
        FileError: a file of the report cannot be written.
    """
    if samples < 0:
        raise ConfigError("a count cannot be negative", where="samples")
    if image_root is not None and not os.path.isdir(image_root):  # noqa: PTH112 - Path.is_dir fails for a long name
        raise ConfigError("no such folder", where=image_root, hint="name the folder the images lie in")
    folder, out = RunFolder(path), out or path
    info = folder.read_info()
    info = msgspec.structs.replace(info, name=printable(info.name))
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
    asked, of_run = folder.read_samples(), _questions(info, lines, scoring)
    results = results_of(of_run, asked, info, scoring, complete=info.status == "complete")
    timing = summarise_run(lines, info.conditions)
    asked_pairs = _asked(of_run, scoring, against, baseline) if against or baseline else []
    of_key = {sample.key: sample for sample in asked}
    by_kind = [draw_kind_plots(group, info.shape.num_visual) for group in results.get("kinds", [])]
    by_group = [draw_plots(group, timing, lines, info, of_key, scoring.protocol) for group in results["groups"]]
    masks, records = TokenMasks.of_run(folder, info.shape), [record for record, _ in lines.values()]
    dropped = objects.objects_dropped(records, info.conditions, asked, scoring.resamples, scoring.seed)
    drawn = draw_dropped(dropped, lines, info.conditions, asked, pictures, masks) if dropped else []
    for plot in (plot for figures in (*by_kind, *by_group, drawn) for plot in figures):
        write_whole(out / "plots" / f"{plot.name}.png", plots.to_png(plot.figure))
    # A new section is a list of tables, texts and plots.
    sections: dict[str, list[Part]] = {
        "Results": [
            *(Text("lead", line) for group in results["groups"] for line in comparison_tables.in_words(group)),
            *asked_pairs,
            *_parts_of_kinds(results, timing, by_kind),
            *_parts_of_plans(results, timing, info, by_group),
            *_titled("By circumstances", kind_tables.breakdowns(results), kind_tables.BREAKDOWN_NOTE),
        ],
        "Plots": [plot for figures in by_group for plot in figures[1:]],
    }
    if dropped:
        tables = [objects.by_layer(dropped), objects.by_distance(dropped)]
        sections["Objects"] = [Text("note", f"{objects.counts(dropped)}."), objects.overview(dropped), *drawn, *tables]
        write_whole(out / "objects.csv", to_csv(objects.numbers(dropped)))
    write_whole(out / "results.csv", to_csv(plan_tables.numbers(results, timing)))
    write_whole(out / "results.tex", latex_report(info, results, intervals))
    if by_kind:
        write_whole(out / "kinds.csv", to_csv(kind_tables.kind_numbers(results)))
    write_whole(out / "breakdowns.csv", to_csv(kind_tables.breakdown_numbers(results)))
    parts = "\n".join(_as_markdown(part) for of_section in sections.values() for part in _filled(of_section))
    write_whole(out / "report.md", f"# {markdown(info.name)}\n\n{parts}")
    lost = failures(asked, lines, info.conditions, scoring.protocol)
    shown = choose_samples(asked, lines, samples, {entry["sample"] for entry in lost.shown})
    browser = {
        "appearance": masks and {"side": masks.side},
        "layers": info.shape.layers,
        "conditions": [condition.id for condition in info.conditions],
        "preferred": _preferred(info, lines),
        "samples": browser_data(shown, lines, info.conditions, pictures, scoring.protocol, masks),
        "failures": lost.shown,
    }
    counts = kind_tables.failure_counts(lost.counts)
    write_whole(out / "report.html", html_report(info, results, sections, counts, browser))
    return out / "report.html"


def _questions(info: RunInfo, lines: Lines, scoring: ScoringConfig) -> list[Questions]:
    return questions_of([record for record, _ in lines.values()], info.conditions, info.shape, scoring)


def _asked(
    questions: Sequence[Questions], scoring: ScoringConfig, row: str | None, baseline: Path | None
) -> list[Part]:
    other = RunFolder(baseline) if baseline else None
    found = _questions(other.read_info(), other.read_lines(), scoring) if other else []
    theirs = {one.convention: one for one in found if one.kind == PLAN}
    parts: list[Part] = []
    for mine in (one for one in questions if one.kind == PLAN):
        if other and mine.convention not in theirs:
            problem = f"no plans of convention {mine.convention}"
            raise RunError(problem, where=baseline, hint="name a run of the same questions")
        if other and mine.labelled != theirs[mine.convention].labelled:
            problem = "one run has right answers and the other has none"
            raise RunError(problem, where=baseline, hint="name a run of the same planning set")
        found_pairs = against_row(mine, row, theirs.get(mine.convention))
        named = f"{row or 'the same rows'}{f' of {printable(str(baseline))}' if baseline else ''}"
        parts.append(comparison_tables.compared(f"Against {named}, {mine.convention}", found_pairs))
    return parts


def _parts_of_kinds(
    results: Mapping[str, Any], timing: Mapping[str, Any], drawn: Sequence[Sequence[Plot]]
) -> list[Part]:
    parts: list[Part] = []
    for group, figures in zip(results.get("kinds", []), drawn, strict=True):
        parts.append(Text("heading", f"{kind_tables.TITLE}, convention {group['convention']}"))
        parts += [Text("note", f"{kind_tables.counts(group)}."), replace(kind_tables.overview(group), title="")]
        parts += [kind_tables.details(group, kind, timing) for kind in kind_tables.kinds_of(group)]
        parts += [kind_tables.cameras(group), *figures]
    return parts


def _parts_of_plans(
    results: Mapping[str, Any], timing: Mapping[str, Any], info: RunInfo, drawn: Sequence[Sequence[Plot]]
) -> list[Part]:
    parts: list[Part] = []
    for number, (group, figures) in enumerate(zip(results["groups"], drawn, strict=True), start=1):
        parts.append(Text("heading", plan_tables.describe_group(group, results)))
        if group["first_failure"]:
            parts.append(Text("warning", f"First unusable image: {group['first_failure']['message']}"))
        parts += [plan_tables.pivot(group), *figures[:1], plan_tables.adaptation(group)]
        parts += [Text("warning", f"{warning}.") for warning in plan_tables.warnings(group)]
        parts += [
            plan_tables.every_row(group, timing),
            comparison_tables.damage(group),
            comparison_tables.first_told(group),
            comparison_tables.compared(comparison_tables.BEST, group["pairs"], comparison_tables.PICKED),
            comparison_tables.every_comparison(group),
            replace(plan_tables.classes(group), anchor=f"classes-{number}"),
            plan_tables.stages(group, timing),
            beside_the_paper(group, info.shape),
        ]
        printed = next(row for row in group["rows"] if row["row"] == UNPRUNED)["reference"]
        parts += [Text("printed", printed["summary"])] if printed else []
    return parts


def _titled(title: str, tables: Sequence[Table], note: str) -> list[Part]:
    return [Text("heading", title), Text("note", note), *tables] if tables else []


def _filled(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if not isinstance(part, Table) or part.rows]


PRINTED = "As the released script prints it (unpruned)"


def _as_markdown(part: Part) -> str:
    if isinstance(part, Table):
        return to_markdown(part)
    if isinstance(part, Plot):
        title = markdown(part.title)
        return f"## {title}\n\n![{title}](plots/{part.name}.png)\n"
    shown = {
        "heading": f"# {markdown(part.text)}\n",
        "lead": f"{markdown(part.text)}\n",
        "note": f"{markdown(part.text)}\n",
        "warning": f"**{markdown(part.text)}**\n",
        "printed": f"## {PRINTED}\n\n```\n{part.text}\n```\n",
    }
    return shown[part.kind]


def latex_report(info: RunInfo, results: Mapping[str, Any], intervals: bool = False) -> str:
    """A table of methods by retentions for every convention."""
    captions = [f"{info.name}: {plan_tables.describe_group(group, results)}" for group in results["groups"]]
    return "\n".join(
        to_latex(plan_tables.pivot(group, "", intervals), f"{caption}. {plan_tables.LATEX_CAPTION}")
        for group, caption in zip(results["groups"], captions, strict=True)
    )


def html_report(
    info: RunInfo,
    results: Mapping[str, Any],
    sections: Mapping[str, Sequence[Part]],
    lost: Table,
    browser: Mapping[str, Any],
) -> str:
    """The report as one page that loads nothing; `browser` is the data of its sample browser."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"table": to_html, "svg": lambda plot: Markup(plots.to_svg(plot.figure, plot.title))}
    environment.tests |= {"table": lambda part: isinstance(part, Table), "plot": lambda part: isinstance(part, Plot)}
    return environment.get_template("report.html.j2").render(
        info=info,
        results=results,
        sections={title: _filled(parts) for title, parts in sections.items()},
        lost=lost,
        printed=PRINTED,
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
