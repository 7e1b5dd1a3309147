"""The result table: the same rows for the terminal, for Markdown and for CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from senna_prune.evaluation.report.text import csv_cell, markdown, terminal
from senna_prune.evaluation.run.records import RANDOM, UNPRUNED

# Users ask which of the two counts a "retention" means, so both are shown.
WIDE = (
    *("method", "positions", "accuracy % [95 %]", "ratio % [95 %]"),
    *("tokens in", "tokens after", "TFLOP", "ms", "marks"),
)
NARROW = ("method", "positions", "accuracy % [95 %]", "ratio %", "tokens in", "tokens after", "ms", "marks")
FULL = (
    *("method", "positions", "accuracy % [95 %]", "ratio % [95 %]", "supported"),
    *("tokens in", "tokens after", "TFLOP", "KV MiB", "ms", "ms p95"),
    *("speed % [95 %]", "path % [95 %]", "balanced %", "unparsed %", "agreement %", "seeds"),
)
FRONT = ("method", "positions", "ms", "accuracy % [95 %]", "ratio %", "marks")
NAMES = ("method", "against", "positions", "measure")
"""Columns of words; all others hold numbers, and only these may hold what a configuration made up."""
WIDE_COLUMNS = 110
"""Terminal width from which `WIDE` fits."""

NOTES = (
    f"Intervals: 95 %, bootstrap over scenes. A row is called better or worse than unpruned ({UNPRUNED}), or than "
    f"{RANDOM} at the same retention and kept positions, only where the data supports it: exact McNemar test, "
    "Holm-adjusted over the table, and a scene-clustered interval without 0. Rows of different positions are never "
    "compared.",
    "Tokens in: visual tokens entering a layer, mean over layers; tokens after: the published habit. "
    "TFLOP: real FLOPs (two per multiply-accumulate) of a whole decision.",
)
OPPONENTS = {
    UNPRUNED: ("n", "unpruned"),
    RANDOM: ("r", RANDOM),
    "shuffled": ("s", "with shuffled complexity"),
    "static": ("c", "with constant complexity"),
}
"""Letter and words of every kind of row that a row is compared with."""
LEGEND = (
    f"Marks: n- worse than unpruned, n+ better; r- worse than {RANDOM} at the same retention and positions, r+ better; "
    "s, c: than itself with another sample's complexity, with a constant one."
)
"""Of the letters in the tables of the terminal, which have no room for words."""


def table_rows(group: Mapping[str, Any], timing: Mapping[str, Any]) -> list[dict[str, str]]:
    """All columns of one convention's table as text, in the order of the conditions.

    Args:
        group: one of `results["groups"]`.
        timing: `timing.json`.
    """
    return [_cells(row, timing["rows"].get(row["row"])) for row in group["rows"]]


def _cells(row: Mapping[str, Any], timing: Mapping[str, Any] | None) -> dict[str, str]:
    cost = row["cost"]
    cells = {
        "method": row["label"] if row["retention"] is None else f"{row['label']} {100 * row['retention']:g} %",
        "positions": row["positions"] or "-",
        "accuracy %": hundredths(row["accuracy"]),
        "accuracy % [95 %]": with_interval(row["accuracy"], row["accuracy_interval"]),
        "ratio %": hundredths(row["ratio"]),
        "ratio % [95 %]": with_interval(row["ratio"], row["ratio_interval"]),
        "speed % [95 %]": with_interval(row["speed_accuracy"], row["speed_interval"]),
        "path % [95 %]": with_interval(row["path_accuracy"], row["path_interval"]),
        "balanced %": hundredths(row["balanced_accuracy"]),
        "unparsed %": hundredths(row["unparsed"]),
        "agreement %": hundredths(row["agreement"]),
        "tokens in": f"{cost['tokens_entering']:.1f}" if cost else "-",
        "tokens after": f"{cost['tokens_after']:.1f}" if cost else "-",
        "TFLOP": f"{cost['flops']['total'] / 1e12:.4g}" if cost else "-",
        "KV MiB": f"{cost['kv_bytes'] / 2**20:.3g}" if cost else "-",
        "ms": f"{timing['p50']['total']:.1f}" if timing else "-",
        "ms p95": f"{timing['p95']['total']:.1f}" if timing else "-",
        "seeds": str(len(row["seeds"])) if row["seeds"] else "-",
    }
    return {**cells, "marks": letters(row["comparisons"]), "supported": verdicts(row["comparisons"])}


def letters(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """`n- r+`: the differences that the data supports, as `LEGEND` explains them."""
    supported = [comparison for comparison in comparisons if comparison["supported"]]
    return " ".join(f"{OPPONENTS[c['kind']][0]}{'+' if c['difference'] > 0 else '-'}" for c in supported)


def verdicts(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """`worse than unpruned, better than random`: the differences that the data supports."""
    return ", ".join(
        f"{'better' if c['difference'] > 0 else 'worse'} than {OPPONENTS[c['kind']][1]}"
        for c in comparisons
        if c["supported"]
    )


def terminal_table(title: str, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> Table:
    """For the terminal."""
    table = Table(title=terminal(title), title_justify="left", box=SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", justify="left" if column in NAMES or column == "marks" else "right")
    for row in rows:
        table.add_row(*(terminal(row[column]) for column in columns))
    return table


def markdown_table(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> str:
    """GitHub Markdown."""
    names = list(columns)
    lines = [f"| {' | '.join(names)} |", f"|{'|'.join('---' if n in NAMES else '---:' for n in names)}|"]
    cells = [[markdown(row[name]) if name in NAMES else row[name] for name in names] for row in rows]
    lines += [f"| {' | '.join(line)} |" for line in cells]
    return "\n".join(lines) + "\n"


def csv_text(results: Mapping[str, Any], timing: Mapping[str, Any]) -> str:
    """Plain numbers of every row of every convention, one line each.

    Args:
        results: `results.json`.
        timing: `timing.json`.
    """
    run = {name: results[name] for name in ("status", "protocol", "on_error")}
    records = [
        run | _numbers(group, row, timing["rows"].get(row["row"]))
        for group in results["groups"]
        for row in group["rows"]
    ]
    return csv_of(records)


def csv_of(records: Sequence[Mapping[str, Any]]) -> str:
    """Records of differing fields as CSV."""
    names = list(dict.fromkeys(name for record in records for name in record))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in record.items()} for record in records)
    return out.getvalue()


def _numbers(group: Mapping[str, Any], row: Mapping[str, Any], timing: Mapping[str, Any] | None) -> dict[str, Any]:
    intervals: dict[str, float | None] = {}
    for name in ("accuracy", "ratio", "speed", "path"):
        low, high = row[f"{name}_interval"] or (None, None)
        intervals |= {f"{name}_low": low, f"{name}_high": high}
    numbers: dict[str, Any] = {
        "convention": group["convention"],
        **{name: group[name] for name in ("samples", "scenes", "failed")},
        **{name: row[name] for name in ("label", "method", "retention", "positions")},
        "seeds": len(row["seeds"] or []) or None,
        **{n: row[n] for n in ("accuracy", "ratio", "speed_accuracy", "path_accuracy", "balanced_accuracy")},
        **intervals,
        **{n: row[n] for n in ("unparsed", "agreement")},
        **{f"f1_{name}": scores["f1"] for name, scores in row["classes"].items()},
        "reference_accuracy_percent": row["reference"]["accuracy_percent"],
    }
    if cost := row["cost"]:
        numbers |= {name: cost[name] for name in ("tokens_entering", "tokens_after", "kv_bytes")}
        numbers |= {f"flops_{stage}": value for stage, value in cost["flops"].items()}
    if found := row["adaptation"]:
        names = ("min", "q1", "median", "q3", "max")
        numbers |= {f"complexity_{name}": value for name, value in zip(names, found["complexity"], strict=True)}
        low, high = found["slope"] or (None, None)
        numbers |= {"slope_low": low, "slope_high": high, "clamped": found["clamped"], "spread": found["spread"]}
    for comparison in row["comparisons"]:
        other = comparison["kind"]
        low, high = comparison["difference_interval"] or (None, None)
        numbers |= {f"{n}_vs_{other}": comparison[n] for n in ("difference", "detectable", "p", "p_holm", "supported")}
        numbers |= {f"difference_low_vs_{other}": low, f"difference_high_vs_{other}": high}
    if timing:
        numbers |= {f"ms_p50_{stage}": value for stage, value in timing["p50"].items()}
        numbers |= {"ms_p95_total": timing["p95"]["total"], "peak_bytes": timing["peak_bytes"]}
    return numbers


def hundredths(share: float | None, digits: int = 1) -> str:
    """A share in percent, without the sign."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def with_interval(share: float | None, bounds: Sequence[float] | None) -> str:
    """`71.7 [63.3, 83.3]`, in percent."""
    return f"{hundredths(share)} [{hundredths(bounds[0])}, {hundredths(bounds[1])}]" if bounds else hundredths(share)
