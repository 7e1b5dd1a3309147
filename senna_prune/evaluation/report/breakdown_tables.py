"""Tables of the scores by circumstances: one table per kind and facet, methods by values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from senna_prune.cli import counted
from senna_prune.evaluation.report.kind_tables import Rows
from senna_prune.evaluation.report.table import csv_of, markdown_table, with_interval

NOTE = (
    "Score in % [95 % interval, bootstrap over the scenes of that column]; a column of one scene has no interval. "
    "Small columns say little, and of many columns some differ by chance: no difference here is tested."
)


@dataclass(frozen=True)
class Breakdown:
    """One table: its title and its rows, `method` first."""

    title: str
    rows: Rows


def breakdowns(results: Mapping[str, Any]) -> list[Breakdown]:
    """The tables of `results["breakdowns"]`."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for entry in results["breakdowns"]:
        title = f"{entry['kind']} by {entry['facet']}"
        if len({other["convention"] for other in results["breakdowns"]}) > 1:
            title += f", convention {entry['convention']}"
        head = f"{entry['value']} ({counted(entry['samples'], 'sample')}, {counted(entry['scenes'], 'scene')})"
        rows = tables.setdefault(title, {})
        for name, of_row in entry["rows"].items():
            cells = rows.setdefault(name, {"method": name})
            cells[head] = with_interval(of_row["score"], of_row["score_interval"])
    return [Breakdown(title, list(rows.values())) for title, rows in tables.items()]


def breakdown_markdown(results: Mapping[str, Any]) -> list[str]:
    """The part of the report as Markdown; empty where the samples differ in nothing."""
    tables = breakdowns(results)
    parts = ["## By circumstances\n"] if tables else []
    for table in tables:
        parts += [f"### {table.title}\n", markdown_table(table.rows, tuple(table.rows[0]))]
    return [*parts, f"{NOTE}\n"] if tables else []


def breakdowns_csv(results: Mapping[str, Any]) -> str:
    """Plain numbers: one line per convention, kind, facet, value and row."""
    records = []
    for entry in results["breakdowns"]:
        for name, of_row in entry["rows"].items():
            low, high = of_row["score_interval"] or (None, None)
            told = {field: entry[field] for field in ("convention", "kind", "facet", "value", "samples", "scenes")}
            records.append({**told, "row": name, "score": of_row["score"], "score_low": low, "score_high": high})
    return csv_of(records)
