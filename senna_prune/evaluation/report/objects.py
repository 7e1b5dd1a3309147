"""What pruning drops, as tables: lift by class, layer and distance, and lost objects, of `audit.dropped`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from senna_prune.evaluation.audit.dropped import NEAR, WATCHED, distance_names, dropped_objects
from senna_prune.evaluation.report.table import Table, ends, with_interval
from senna_prune.evaluation.run.records import Condition, Record
from senna_prune.task.sample import PlanningSample

NOTE = (
    "Lift: share of the tokens that see an object that enter the layer, over the share of all tokens that do. At 1 a "
    "method drops objects as random tokens; above 1 it keeps them, below 1 it drops them first. Tokens merged into "
    "others count as dropped. Brackets: 95 %, bootstrap over scenes."
)
LOST_NOTE = (
    f"Lost: of those within {NEAR:g} m, percent that no token sees any more at half the depth. Lead vehicle: the "
    "nearest one in the car's way."
)


def objects_dropped(
    records: Iterable[Record],
    conditions: Sequence[Condition],
    samples: Sequence[PlanningSample],
    resamples: int,
    seed: int,
) -> dict[str, Any] | None:
    """`dropped_objects` of a run's decisions under the conditions with a budget; raises as it does."""
    rows = {condition.id: condition.row for condition in conditions if condition.retention is not None}
    lines = [
        (rows[one.condition], one.sample, one.survival) for one in records if one.survival and one.condition in rows
    ]
    order = list(dict.fromkeys(rows.values()))
    return dropped_objects(sorted(lines, key=lambda line: order.index(line[0])), samples, resamples, seed)


def counts(dropped: Mapping[str, Any]) -> str:
    """What was counted, and where."""
    told = f"{dropped['objects']} objects of {dropped['samples']} samples in {dropped['scenes']} scenes"
    return f"{told}; half the depth is layer {dropped['half']}"


def overview(dropped: Mapping[str, Any], intervals: bool = True) -> Table:
    """Lift at half depth by kind of object, and lost objects: one line per method."""
    rows = []
    for row in dropped["rows"]:
        lifts = {name: _number(entry, intervals) for name, entry in row["overview"].items()}
        lost = {f"lost {kind} %": _percent(row["lost"].get(kind), intervals) for kind in WATCHED}
        rows.append({"method": row["row"], **lifts, **lost})
    heads = [name for name in rows[0] if any(row.get(name, "-") != "-" for row in rows)]
    return Table.of("What pruning drops: lift at half depth", rows, NOTE, LOST_NOTE).only(*heads)


def by_layer(dropped: Mapping[str, Any]) -> Table:
    """Lift by method, class and layer."""
    rows = [
        {"method": row["row"], "class": name, "objects": str(entries[0]["objects"])}
        | {f"layer {layer}": _number(entry) for layer, entry in zip(dropped["layers"], entries, strict=True)}
        for row in dropped["rows"]
        for name, entries in row["layer"].items()
    ]
    return Table.of("Lift by class and layer", rows, NOTE, folded=True, words={"class"})


def by_distance(dropped: Mapping[str, Any]) -> Table:
    """Lift at half depth by method, class and distance."""
    rows = [
        {"method": row["row"], "class": name} | {said: _number(entries.get(said)) for said in distance_names()}
        for row in dropped["rows"]
        for name, entries in row["distance"].items()
        if entries
    ]
    return Table.of("Lift at half depth by class and distance", rows, NOTE, folded=True, words={"class"})


def numbers(dropped: Mapping[str, Any]) -> Table:
    """Every number, one a line, for a CSV file."""
    rows = []
    for row in dropped["rows"]:
        at_half = {"row": row["row"], "layer": dropped["half"]}
        for name, entries in row["layer"].items():
            for layer, entry in zip(dropped["layers"], entries, strict=True):
                rows.append({"row": row["row"], "layer": layer, "measure": "lift", "what": name, **_plain(entry)})
        for name, bins in row["distance"].items():
            for said, entry in bins.items():
                rows.append({**at_half, "measure": "lift", "what": name, "distance": said, **_plain(entry)})
        for measure, part in (("lift", "overview"), ("lost", "lost")):
            for name, entry in row[part].items():
                rows.append({**at_half, "measure": measure, "what": name, **_plain(entry)})
    columns = ("row", "measure", "what", "layer", "distance", "objects", "value", "value_low", "value_high", "survival")
    return Table("", columns, rows)


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: entry[name] for name in ("objects", "value", "survival") if name in entry}
    return {**told, **ends("value", entry["interval"])}


def _number(entry: Mapping[str, Any] | None, intervals: bool = True) -> str:
    if entry is None or entry["value"] is None:
        return "-"
    bounds = entry["interval"] if intervals else None
    return f"{entry['value']:.2f}" + (f" [{bounds[0]:.2f}, {bounds[1]:.2f}]" if bounds else "")


def _percent(entry: Mapping[str, Any] | None, intervals: bool) -> str:
    return "-" if entry is None else with_interval(entry["value"], entry["interval"] if intervals else None)
