"""What a run found, in at most twenty lines that need no documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from senna_prune.cli import counted
from senna_prune.evaluation.audit.dropped import NEAR
from senna_prune.evaluation.report.plan_tables import Group, method_of
from senna_prune.evaluation.report.table import hundredths
from senna_prune.evaluation.run.records import MAJORITY, RANDOM, UNPRUNED
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.evaluation.run.system import NO_TOKENS
from senna_prune.task.labels import PLAN

SUBJECT = "autoprune"
"""The method that the sentences are about; in a run without it, the first that is no control."""
CONTROLS = (RANDOM, "uniform", "oracle", "anti_oracle")
MOST_LINES = 20
FEWEST = 10
"""Samples that circumstances must cover to be named."""
WORDS = {UNPRUNED: "none: all tokens", MAJORITY: "majority: always the commonest answer"}


def summary(folder: RunFolder, files: Mapping[str, Path]) -> list[str]:
    """The lines, for a finished run that asked for plans; of the first convention where there are several.

    Args:
        folder: the run.
        files: what it wrote, by what a reader calls it; the last lines.
    """
    info, results, timing = folder.read_info(), folder.read_json("results.json"), folder.read_json("timing.json")
    group, times = results["groups"][0], timing["rows"]
    rows = {row["row"]: row for row in group["rows"]}
    budgeted = [row for row in group["rows"] if row["retention"] is not None and row["method"] not in CONTROLS]
    subject = next((row for row in budgeted if row["label"] == SUBJECT), budgeted[0] if budgeted else None)
    tokens = f"with all {info.shape.num_visual} image tokens and with some of them"
    seen = "" if info.shape == NO_TOKENS else f" from {info.shape.views} cameras, {tokens}"
    told = [f"{info.name}: one model plans {counted(group['samples'], 'frame')}{seen}."]
    about: list[str] = []
    if subject is not None:
        compared = {one["kind"]: one for one in subject["comparisons"]}
        about = [
            *_right(subject, rows[UNPRUNED], compared, group),
            *_circumstances(subject["row"], results["breakdowns"], group),
            *_saved(subject, rows[UNPRUNED], times),
            *_dropped(subject["row"], compared.get(RANDOM, {}).get("to"), results.get("objects")),
        ]
    ends = [*_unproved(group), *(f"{name}: {path}" for name, path in files.items())]
    room = MOST_LINES - len(told) - len(about) - len(ends) - 1  # the head of the table
    return [*told, *_table(group, times, room), *about, *ends]


def _table(group: Group, times: Mapping[str, Any], most: int) -> list[str]:
    """The unpruned model, then from best to worst."""
    rows, head = group["rows"], "plans right" if group["labelled"] else "as unpruned"
    ordered = sorted(rows, key=lambda row: (row["row"] != UNPRUNED, -row["score"]))
    shown = ordered if len(ordered) <= most else ordered[: most - 1]
    names = [WORDS.get(row["row"], method_of(row)) for row in shown]
    width = max(map(len, names))
    lines = [f"  {'':{width}}  {head}    time  tokens per layer"]
    for row, name in zip(shown, names, strict=True):
        spent = f"{times[row['row']]['p50']['total']:5.0f} ms" if row["row"] in times else ""
        tokens = f"{row['cost']['tokens_entering']:16.0f}" if row["cost"] else ""
        lines.append(f"  {name:{width}}  {hundredths(row['score']):>9} %  {spent:>8}  {tokens}".rstrip())
    return lines if len(shown) == len(rows) else [*lines, f"  and {len(rows) - len(shown)} more: see --verbose"]


def _right(
    subject: Mapping[str, Any], full: Mapping[str, Any], compared: Mapping[str, Mapping[str, Any]], group: Group
) -> list[str]:
    """What the method did to the plans, and whether choosing beats chance."""
    name, count = method_of(subject), group["samples"]
    right = f"{round(subject['score'] * count)} of {count} plans {'right' if group['labelled'] else 'as unpruned'}"
    right += f", {round(full['score'] * count)} unpruned" if group["labelled"] else ""
    lines = [f"{name}: {right}."]
    if UNPRUNED in compared:
        one = compared[UNPRUNED]
        changed = f"{one['only_other']:g} right plans wrong and {one['only_this']:g} wrong ones right"
        lines.append(f"It made {changed}: {_verdict(one)}.")
    if RANDOM in compared:
        lines.append(f"Against dropping at random: {_verdict(compared[RANDOM])}.")
    return lines


def _verdict(comparison: Mapping[str, Any]) -> str:
    points = 100 * comparison["difference"]
    if comparison["supported"]:
        return f"{abs(points):.1f} points {'better' if points > 0 else 'worse'}, beyond chance"
    return f"{points:+.1f} points, which may be chance"


def _circumstances(row: str, breakdowns: Sequence[Mapping[str, Any]], group: Group) -> list[str]:
    """For whom it loses most, as far as commands, speeds and true plans tell."""
    parts = [one for one in breakdowns if one["kind"] == PLAN and one["convention"] == group["convention"]]
    known = {
        (one["facet"], one["value"]): (one["rows"][row]["score"], one["rows"][UNPRUNED]["score"], one["samples"])
        for one in parts
        if one["samples"] >= FEWEST
    }
    if not known:
        return []
    (facet, value), (own, full, count) = min(known.items(), key=lambda one: one[1][0] - one[1][1])
    if own >= full:
        return []
    where = f"where the {facet} is {value!r} ({count} frames)"
    right = "right" if group["labelled"] else "as unpruned"
    return [f"It loses most {where}: {hundredths(own, 0)} % {right}, {hundredths(full, 0)} % unpruned."]


def _saved(subject: Mapping[str, Any], full: Mapping[str, Any], times: Mapping[str, Any]) -> list[str]:
    parts = []
    if full["row"] in times and subject["row"] in times:
        before, after = (times[row["row"]]["p50"]["total"] for row in (full, subject))
        parts.append(f"{after:.0f} ms a plan instead of {before:.0f} ({before / after:.2g} times as fast)")
    if full["cost"] and subject["cost"]:
        parts.append(
            f"{100 * (1 - subject['cost']['flops']['total'] / full['cost']['flops']['total']):.0f} % of the computation"
        )
        parts.append(f"{100 * (1 - subject['cost']['kv_bytes'] / full['cost']['kv_bytes']):.0f} % of the cache")
    return [f"It saves: {', '.join(parts)}."] if parts else []


def _dropped(row: str, random: str | None, dropped: Mapping[str, Any] | None) -> list[str]:
    """Whom it lost, where the samples tell their objects."""
    lost = {one["row"]: one["lost"] for one in (dropped or {"rows": ()})["rows"]}
    parts = []
    for kind, own in lost.get(row, {}).items():
        beside = lost.get(random or "", {}).get(kind)
        chance = f" (at random {hundredths(beside['value'], 0)} %)" if beside else ""
        parts.append(f"{hundredths(own['value'], 0)} % of the {kind}{chance}")
    return [f"Half-way through the layers no token sees {', '.join(parts)} within {NEAR:g} m."] if parts else []


def _unproved(group: Group) -> list[str]:
    where = "" if group["nuscenes_val"] else ", none of nuScenes' validation set"
    return [f"Not proved: anything beyond this model and these {counted(group['scenes'], 'scene')}{where}."]
