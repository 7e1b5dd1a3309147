"""Tables by kind of question, by circumstances, and of what pruning loses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from senna_prune.cli import counted
from senna_prune.evaluation.report.plan_tables import LEGEND, letters, method_of
from senna_prune.evaluation.report.table import Table, ends, hundredths, printable, with_interval
from senna_prune.evaluation.score.judge import KIND_ORDER, SCORES
from senna_prune.task.labels import PLAN

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
BREAKDOWN_NOTE = (
    "Score in % [95 % interval over the scenes of that column]; a column of one scene has no interval. n-: worse than "
    "the unpruned model on these samples, n+: better (sign-flip test by scenes, Holm-adjusted over the columns of a "
    "table at one retention). Small columns say little."
)
FAILURE_NOTE = (
    "Samples that only the unpruned model has right (lost), and that only the method has right (gained); of methods "
    "with several seeds, the first."
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


def overview(group: Mapping[str, Any], intervals: bool = True) -> Table:
    """One row per method: score and ratio of every kind, and the mean ratio; scores with their intervals or without."""
    shown = []
    for row in group["rows"]:
        cells = {"method": method_of(row)}
        for kind in kinds_of(group):
            entry = row["kinds"].get(kind)
            bounds = entry["score_interval"] if entry and intervals else None
            head = f"{kind} % [95 %]" if intervals else f"{kind} %"
            marks = letters(entry["comparisons"]) if entry else ""
            cells[head] = f"{with_interval(entry['score'], bounds)} {marks}".strip() if entry else "-"
            cells[f"{kind} ratio %"] = hundredths(entry["ratio"]) if entry else "-"
        shown.append({**cells, MEAN: with_interval(row["mean_ratio"], row["mean_ratio_interval"])})
    free = any(SCORES[kind].startswith("chrF") for kind in group["kinds"])
    return Table.of("By kind of question", shown, RULE, LISTS, TOKENS, LEGEND, *([WEAK] if free else []))


def details(group: Mapping[str, Any], kind: str, timing: Mapping[str, Any]) -> Table:
    """One row per method: every measure of a kind, unparsed answers, tokens, mutual information and measured time."""
    times = timing["rows"] if kind == PLAN else timing["kinds"].get(kind, {})
    shown = []
    for row in group["rows"]:
        if (entry := row["kinds"].get(kind)) is None:
            continue
        cost = entry["cost"]
        cells = {"method": method_of(row), "score % [95 %]": with_interval(entry["score"], entry["score_interval"])}
        cells["ratio % [95 %]"] = with_interval(entry["ratio"], entry["ratio_interval"])
        cells |= {
            head: hundredths(entry["measures"][name]) for name, head in _MEASURES[kind].items() if entry["measures"]
        }
        cells["unparsed %"] = hundredths(entry["unparsed"])
        for name, head in (("entering", "tokens in"), ("middle", "tokens middle"), ("last", "tokens last")):
            cells[head] = f"{cost[f'tokens_{name}']:.1f}" if cost else "-"
        quartiles = cost["complexity"] if cost else None
        cells["mutual information"] = (
            f"{quartiles[2]:.3g} [{quartiles[1]:.3g}, {quartiles[3]:.3g}]" if quartiles else "-"
        )
        cells["ms"] = f"{times[row['row']]['p50']['total']:.1f}" if row["row"] in times else "-"
        shown.append(cells)
    return Table.of(f"{kind}: every measure, tokens and mutual information", shown, folded=True)


def cameras(group: Mapping[str, Any]) -> Table:
    """One row per method: speed and path actions right, by the camera that a motion question is about."""
    found = {method_of(row): row["kinds"].get("motion", {}).get("measures", {}) for row in group["rows"]}
    of_row = {name: measures["cameras"] for name, measures in found.items() if measures}
    # A row with several seeds has each object several times; the heads say how many there are.
    heads = [f"{name} ({of['objects']})" for given in list(of_row.values())[:1] for name, of in given.items()]
    shown = [
        {"method": name}
        | {
            head: " / ".join(hundredths(of[part], 0) for part in ("speed", "path", "both"))
            for head, of in zip(heads, given.values(), strict=True)
        }
        for name, given in of_row.items()
    ]
    note = "Speed / path / both right, in % of the objects (their number in parentheses)."
    return Table.of("motion by camera", shown, note, folded=True)


def counts(group: Mapping[str, Any]) -> str:
    """`408 plan of 408 scenes (score: ...); ...`."""
    parts = []
    for kind in kinds_of(group):
        of = group["kinds"][kind]
        failed = f", {of['failed']} with unusable images" if of["failed"] else ""
        parts.append(f"{of['samples']} {kind} of {counted(of['scenes'], 'scene')}{failed} (score: {SCORES[kind]})")
    return "; ".join(parts)


def kind_numbers(results: Mapping[str, Any]) -> Table:
    """`kinds.csv`: plain numbers, one line per convention, row and kind."""
    records = []
    for group in results.get("kinds", []):
        for row in group["rows"]:
            for kind, entry in row["kinds"].items():
                flat = {name: row[name] for name in ("row", "label", "method", "retention", "mean_ratio")}
                flat |= {"convention": group["convention"], "kind": kind, **group["kinds"][kind]}
                flat |= {name: entry[name] for name in ("score", "ratio", "unparsed")}
                flat |= {
                    f"{n}_vs_{c['kind']}": c[n] for c in entry["comparisons"] for n in ("difference", "p", "p_holm")
                }
                flat |= ends("score", entry["score_interval"]) | ends("ratio", entry["ratio_interval"])
                flat |= {name: entry["measures"].get(name) for name in _MEASURES[kind]}
                cost = entry["cost"] or {}
                flat |= {name: value for name, value in cost.items() if name.startswith("tokens_")}
                quartiles = zip(("least", "q1", "median", "q3", "most"), cost.get("complexity") or [], strict=False)
                flat |= {f"complexity_{name}": value for name, value in quartiles}
                records.append(flat)
    return Table.of("", records)


# By circumstances -----------------------------------------------------------------------------------------------------


def breakdowns(results: Mapping[str, Any]) -> list[Table]:
    """One table per kind and facet: methods by values."""
    several = len({entry["convention"] for entry in results["breakdowns"]}) > 1
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for entry in results["breakdowns"]:
        title = f"{entry['kind']} by {entry['facet']}" + (f", convention {entry['convention']}" if several else "")
        size = f"{counted(entry['samples'], 'sample')}, {counted(entry['scenes'], 'scene')}"
        for name, of_row in entry["rows"].items():
            cells = tables.setdefault(title, {}).setdefault(name, {"method": name})
            score = with_interval(of_row["score"], of_row["score_interval"])
            if of_row.get("supported"):
                score += " n+" if of_row["difference"] > 0 else " n-"
            cells[f"{printable(entry['value'])} ({size})"] = score
    return [Table.of(title, list(rows.values()), folded=True) for title, rows in tables.items()]


def breakdown_numbers(results: Mapping[str, Any]) -> Table:
    """`breakdowns.csv`: plain numbers, one line per convention, kind, facet, value and row."""
    fields = ("convention", "kind", "facet", "value", "samples", "scenes")
    return Table.of(
        "",
        [
            {name: entry[name] for name in fields}
            | {"row": name, "score": of_row["score"], **ends("score", of_row["score_interval"])}
            | {f"{n}_vs_none": of_row[n] for n in ("difference", "p", "p_holm", "supported") if n in of_row}
            for entry in results["breakdowns"]
            for name, of_row in entry["rows"].items()
        ],
    )


def failure_counts(counts: Mapping[str, Mapping[str, tuple[int, int]]]) -> Table:
    """Method, and for every kind how many samples pruning lost and gained."""
    kinds = dict.fromkeys(kind for of_row in counts.values() for kind in of_row)
    rows = [
        {"method": row, **{f"{kind}: lost / gained": " / ".join(map(str, of_row.get(kind, (0, 0)))) for kind in kinds}}
        for row, of_row in counts.items()
    ]
    return Table.of("", rows, FAILURE_NOTE)
