"""Tables of the scores by kind of question: one row per method with a column group per kind, and the mean ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from senna_prune.cli import counted
from senna_prune.evaluation.report.table import csv_of, hundredths, markdown_table, with_interval
from senna_prune.evaluation.score.judge import KIND_ORDER, SCORES
from senna_prune.task.labels import PLAN

Rows = list[dict[str, str]]

TITLE = "Scene understanding and planning"
MEAN = "mean ratio % [95 %]"
RULE = (
    "Mean ratio: the score of each kind of question divided by the unpruned model's, averaged over the kinds with "
    "equal weight, however many questions a kind has. The paper does not say how its Table 3 averages; this rule is "
    "ours. Free text stays out of the mean, and so does a kind that the unpruned model never answers rightly."
)
WEAK = (
    "chrF and BLEU count shared characters and words. They are weak measures: a good description in other words scores "
    "low, a wrong one in similar words high."
)
LISTS = (
    "Road users: the list counts kind, side and distance in steps of 5 m as the answer words them. Motion: shares of "
    "objects; exact: every object of a view right and no other named. Answers that cannot be read count as wrong."
)
TOKENS = (
    "Tokens: visual tokens entering a layer, mean over layers, and those entering the middle and the last layer. "
    "Mutual information: median [quartiles], of methods that measure it. ms: median time of an answer."
)
_MEASURES: dict[str, dict[str, str]] = {
    "plan": {
        "accuracy": "accuracy %",
        "speed_accuracy": "speed %",
        "path_accuracy": "path %",
        "balanced_accuracy": "balanced %",
    },
    "vru": {
        "accuracy": "presence %",
        "f1": "F1 %",
        "balanced_accuracy": "balanced %",
        "list_precision": "list precision %",
        "list_recall": "list recall %",
        "list_f1": "list F1 %",
    },
    "motion": {
        "accuracy": "speed and path %",
        "speed_accuracy": "speed %",
        "path_accuracy": "path %",
        "speed_macro_f1": "speed macro F1 %",
        "path_macro_f1": "path macro F1 %",
        "exact_match": "exact %",
        "unread": "unread objects %",
    },
    "traffic_light": {"accuracy": "exact %", "balanced_accuracy": "balanced %"},
    "description": {"chrf": "chrF (weak)", "bleu": "BLEU (weak)"},
    "explanation": {"chrf": "chrF (weak)", "bleu": "BLEU (weak)"},
}
"""Measures of a kind that are shown, with the head of their column."""


def kinds_of(group: Mapping[str, Any]) -> list[str]:
    """The kinds of a group in the order of the tables, which a JSON file does not keep."""
    return sorted(group["kinds"], key=KIND_ORDER.index)


def overview(group: Mapping[str, Any], intervals: bool = True) -> Rows:
    """One row per method: score and ratio of every kind, and the mean ratio; scores with their intervals or without."""
    shown = []
    for row in group["rows"]:
        cells = {"method": _method(row)}
        for kind in kinds_of(group):
            entry = row["kinds"].get(kind)
            bounds = entry["score_interval"] if entry and intervals else None
            head = f"{kind} % [95 %]" if intervals else f"{kind} %"
            cells[head] = with_interval(entry["score"], bounds) if entry else "-"
            cells[f"{kind} ratio %"] = hundredths(entry["ratio"]) if entry else "-"
        shown.append({**cells, MEAN: with_interval(row["mean_ratio"], row["mean_ratio_interval"])})
    return shown


def details(group: Mapping[str, Any], kind: str, timing: Mapping[str, Any]) -> Rows:
    """One row per method: every measure of a kind, unparsed answers, tokens, mutual information and measured time."""
    times = timing["rows"] if kind == PLAN else timing["kinds"].get(kind, {})
    shown = []
    for row in group["rows"]:
        if (entry := row["kinds"].get(kind)) is None:
            continue
        cost = entry["cost"]
        cells = {"method": _method(row), "score % [95 %]": with_interval(entry["score"], entry["score_interval"])}
        cells["ratio % [95 %]"] = with_interval(entry["ratio"], entry["ratio_interval"])
        cells |= {head: hundredths(entry["measures"][name]) for name, head in _MEASURES[kind].items()}
        cells["unparsed %"] = hundredths(entry["unparsed"])
        for name in ("entering", "middle", "last"):
            cells[f"tokens {'in' if name == 'entering' else name}"] = f"{cost[f'tokens_{name}']:.1f}" if cost else "-"
        quartiles = cost["complexity"] if cost else None
        cells["mutual information"] = _quartiles(quartiles) if quartiles else "-"
        cells["ms"] = f"{times[row['row']]['p50']['total']:.1f}" if row["row"] in times else "-"
        shown.append(cells)
    return shown


def cameras(group: Mapping[str, Any]) -> Rows:
    """One row per method: speed and path actions right, by the camera that a motion question is about."""
    shown = []
    for row in group["rows"]:
        if entry := row["kinds"].get("motion"):
            seen = entry["measures"]["cameras"]
            cells = {
                f"{camera} ({of['objects']})": " / ".join(hundredths(of[name], 0) for name in ("speed", "path", "both"))
                for camera, of in seen.items()
            }
            # A row with several seeds has each object several times; the heads say how many there are.
            shown.append({"method": _method(row), **cells})
    heads = list(shown[0]) if shown else []
    return [dict(zip(heads, row.values(), strict=True)) for row in shown]


def counts(group: Mapping[str, Any]) -> str:
    """`408 plan of 408 scenes (score: ...); ...`."""
    parts = []
    for kind in kinds_of(group):
        of = group["kinds"][kind]
        failed = f", {of['failed']} with unusable pictures" if of["failed"] else ""
        parts.append(f"{of['samples']} {kind} of {counted(of['scenes'], 'scene')}{failed} (score: {SCORES[kind]})")
    return "; ".join(parts)


def notes(group: Mapping[str, Any]) -> list[str]:
    """What a reader of the tables must know."""
    free = any(SCORES[kind].startswith("chrF") for kind in group["kinds"])
    return [RULE, LISTS, TOKENS, *([WEAK] if free else [])]


def kind_markdown(results: Mapping[str, Any], timing: Mapping[str, Any]) -> list[str]:
    """The kinds' part of the report as Markdown; empty where only plans were asked for."""
    parts = []
    for group in results.get("kinds", []):
        parts.append(f"## {TITLE}, convention {group['convention']}\n\n{counts(group)}.\n")
        kinds = kinds_of(group)
        tables = [overview(group), *(details(group, kind, timing) for kind in kinds)]
        for title, rows in zip([None, *kinds], tables, strict=True):
            parts += [f"### {title}\n"] if title else []
            parts.append(markdown_table(rows, tuple(rows[0])))
        if by_camera := cameras(group):
            parts += ["### motion by camera: speed / path / both right, %\n"]
            parts.append(markdown_table(by_camera, tuple(by_camera[0])))
        parts += [f"{note}\n" for note in notes(group)]
    return parts


def kinds_csv(results: Mapping[str, Any]) -> str:
    """Plain numbers: one line per convention, row and kind."""
    records = []
    for group in results.get("kinds", []):
        for row in group["rows"]:
            for kind, entry in row["kinds"].items():
                flat = {name: row[name] for name in ("row", "label", "method", "retention", "mean_ratio")}
                flat |= {"convention": group["convention"], "kind": kind, **group["kinds"][kind]}
                flat |= {name: entry[name] for name in ("score", "ratio", "unparsed")}
                for name in ("score", "ratio"):
                    low, high = entry[f"{name}_interval"] or (None, None)
                    flat |= {f"{name}_low": low, f"{name}_high": high}
                flat |= {name: entry["measures"][name] for name in _MEASURES[kind]}
                cost = entry["cost"] or {}
                flat |= {name: value for name, value in cost.items() if name.startswith("tokens_")}
                quartiles = cost.get("complexity") or []
                flat |= {f"complexity_{n}": value for n, value in zip(_QUARTILES, quartiles, strict=False)}
                records.append(flat)
    return csv_of(records)


_QUARTILES = ("least", "q1", "median", "q3", "most")


def _quartiles(values: Sequence[float]) -> str:
    return f"{values[2]:.3g} [{values[1]:.3g}, {values[3]:.3g}]"


def _method(row: Mapping[str, Any]) -> str:
    return str(row["label"]) if row["retention"] is None else f"{row['label']} {100 * row['retention']:g} %"
