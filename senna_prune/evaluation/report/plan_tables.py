"""The tables of plans: methods by retentions, every row, every comparison, adaptation, classes, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from senna_prune.cli import counted
from senna_prune.evaluation.report.table import Table, ends, hundredths, number, signed, with_interval
from senna_prune.evaluation.run.records import ORACLES, RANDOM, UNPRUNED
from senna_prune.evaluation.score.latency import accuracy_and_time, pareto_front

Group = Mapping[str, Any]
"""One of `results["groups"]`."""

UNBUDGETED = "no retention"
"""Column of rows that take none: `none`, `blind`, `majority`."""
PIVOT_NOTE = (
    "Planning accuracy in %, and below it the ratio to the unpruned model in %, by share of visual tokens kept. Words "
    "stand only where the data supports them."
)
AGREEMENT_NOTE = (
    "The samples have no true plans: share of plans that are the unpruned model's, in %, by share of visual tokens "
    "kept. Words stand only where the data supports them."
)
LATEX_CAPTION = "Planning accuracy in % (ratio to the unpruned model in %), by share of visual tokens kept."
ACCURACY, AGREEMENT = "accuracy % [95 %]", "agreement % [95 %]"
"""Heads of a row's score: the second where no true plans are known."""
# Users ask which of the two counts a "retention" means, so both are shown.
WIDE = (
    *("method", "positions", ACCURACY, AGREEMENT, "ratio % [95 %]"),
    *("tokens in", "tokens after", "TFLOP", "ms", "marks"),
)
NARROW = ("method", "positions", ACCURACY, AGREEMENT, "ratio %", "tokens in", "tokens after", "ms", "marks")
FULL = (
    *("method", "positions", ACCURACY, AGREEMENT, "ratio % [95 %]", "supported"),
    *("tokens in", "tokens after", "TFLOP", "KV MiB", "ms", "ms p95"),
    *("speed % [95 %]", "path % [95 %]", "balanced %", "unparsed %", "error cost", "agreement %", "seeds"),
)
FRONT = ("method", "positions", "ms", ACCURACY, AGREEMENT, "ratio %", "marks")
WIDE_COLUMNS = 110
"""Terminal width from which `WIDE` fits."""
NOTES = (
    "Intervals: 95 %; of shares Wilson's for as many independent samples as the scenes are worth, of ratios Student's "
    f"over scenes. A row is called better or worse than unpruned ({UNPRUNED}), or than {RANDOM} at the same retention "
    "and kept positions, only where the data supports it: sign-flip test by scenes, Holm-adjusted within the "
    "retention. Rows of different positions are never compared.",
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
ADAPTATION = "Does the retention curve follow the sample?"
ADAPTATION_NOTE = (
    "Complexity: minimum / quartiles / maximum over the samples. Slope: of the curve (Eq. 8), least to greatest; "
    "clamped: samples whose slope is 0. Tokens apart: how far the tokens of two samples in a layer differ, mean over "
    "layers and pairs. Gain of adapting, in points: the accuracy less that of the same method with another sample's "
    "complexity (shuffled), or with the mean complexity for all (constant)."
)


def describe_group(group: Group, results: Mapping[str, Any]) -> str:
    """One line above every table: how many samples, of what convention, scored how."""
    failed = f", {group['failed']} with unusable images ({results['on_error']})" if group["failed"] else ""
    partial = "PARTIAL, " if results["status"] == "partial" else ""
    size = f"{counted(group['samples'], 'sample')} of {counted(group['scenes'], 'scene')}"
    return f"{partial}{size}, convention {group['convention']}, protocol {results['protocol']}{failed}"


def pivot(group: Group, marks: str = "words", intervals: bool = False) -> Table:
    """What a reader sees first: methods by retentions, which ascend.

    Args:
        group: its rows keep their order.
        marks: what the data supports, as `words` or `letters`, or "".
        intervals: of the accuracies.
    """
    heads = {
        share: UNBUDGETED if share is None else f"{100 * share:g} %"
        for share in (r["retention"] for r in group["rows"])
    }
    order = sorted(heads, key=lambda share: (share is not None, share or 0))
    rows: dict[str, dict[str, str]] = {}
    best = set()
    for row in group["rows"]:
        head, label = heads[row["retention"]], row["label"]
        cells = rows.setdefault(label, {"method": "\n".join(filter(None, (label, row["positions"])))})
        score = with_interval(row["score"], row["score_interval"] if intervals else None)
        if marks == "letters":
            score = f"{letters(row['comparisons'])} {score}"
        words = verdicts(row["comparisons"]) if marks == "words" else ""
        ratio = hundredths(row["ratio"]) if group["labelled"] else ""
        cells[head] = "\n".join(filter(None, (score, ratio, words)))
        fair = [other for other in group["rows"] if other["method"] not in ORACLES]
        others = [other["score"] for other in fair if other["retention"] == row["retention"]]
        if row["retention"] is not None and row in fair and row["score"] == max(others):
            best.add((list(rows).index(label), head))
    columns = ("method", *(heads[share] for share in order))
    note = PIVOT_NOTE if group["labelled"] else AGREEMENT_NOTE
    return Table("", columns, list(rows.values()), (note,), "pivot", best=frozenset(best))


def every_row(group: Group, timing: Mapping[str, Any]) -> Table:
    """All columns of one convention's rows, in the order of the conditions; `timing` is `timing.json`."""
    rows = [_cells(row, timing["rows"].get(row["row"]), group["labelled"]) for row in group["rows"]]
    words = frozenset({"positions", "marks", "supported"})
    return Table("Every row", FULL, rows, NOTES, "flat", words=words).only(*FULL)


def _cells(row: Mapping[str, Any], timing: Mapping[str, Any] | None, labelled: bool) -> dict[str, str]:
    cost = row["cost"]
    score = with_interval(row["score"], row["score_interval"])
    by_label = {
        ACCURACY: score,
        "ratio %": hundredths(row["ratio"]),
        "ratio % [95 %]": with_interval(row["ratio"], row["ratio_interval"]),
        "speed % [95 %]": with_interval(row["speed_accuracy"], row["speed_interval"]),
        "path % [95 %]": with_interval(row["path_accuracy"], row["path_interval"]),
        "balanced %": hundredths(row["balanced_accuracy"]),
        "unparsed %": hundredths(row["unparsed"]),
        "error cost": number(row["error_cost"]),
        "agreement %": hundredths(row["agreement"]),
    }
    return {
        "method": method_of(row),
        "positions": row["positions"] or "-",
        **(by_label if labelled else {AGREEMENT: score}),
        "tokens in": f"{cost['tokens_entering']:.1f}" if cost else "-",
        "tokens after": f"{cost['tokens_after']:.1f}" if cost else "-",
        "TFLOP": f"{cost['flops']['total'] / 1e12:.4g}" if cost else "-",
        "KV MiB": f"{cost['kv_bytes'] / 2**20:.3g}" if cost else "-",
        "ms": f"{timing['p50']['total']:.1f}" if timing else "-",
        "ms p95": f"{timing['p95']['total']:.1f}" if timing else "-",
        "seeds": str(len(row["seeds"])) if row["seeds"] else "-",
        "marks": letters(row["comparisons"]),
        "supported": verdicts(row["comparisons"]),
    }


def method_of(row: Mapping[str, Any]) -> str:
    """`autoprune 25 %`."""
    return str(row["label"]) if row["retention"] is None else f"{row['label']} {100 * row['retention']:g} %"


def letters(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """`n- r+`: the differences that the data supports, as `LEGEND` explains them."""
    supported = [comparison for comparison in comparisons if comparison["supported"]]
    return " ".join(f"{OPPONENTS[c['kind']][0]}{'+' if c['difference'] > 0 else '-'}" for c in supported)


def verdicts(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """`worse than unpruned, better than random`: the differences that the data supports."""
    supported = [comparison for comparison in comparisons if comparison["supported"]]
    return ", ".join(
        f"{'better' if c['difference'] > 0 else 'worse'} than {OPPONENTS[c['kind']][1]}" for c in supported
    )


def front(group: Group, timing: Mapping[str, Any]) -> Table:
    """The rows that no other beats in both time and accuracy."""
    rows = dict(zip((row["row"] for row in group["rows"]), every_row(group, timing).rows, strict=True))
    shown = [rows[name] for name in pareto_front(accuracy_and_time(group["rows"], timing))]
    words = frozenset({"positions", "marks"})
    return Table("Fastest for their score (Pareto front)", FRONT, shown, words=words).only(*FRONT)


def adaptation(group: Group) -> Table:
    """A line for every row whose schedule depends on the sample."""
    rows = []
    for row in group["rows"]:
        if found := row["adaptation"]:
            least, *quartiles, most = (f"{value:.3g}" for value in found["complexity"])
            gains = {c["kind"]: signed(c["difference"], c["difference_interval"]) for c in row["comparisons"]}
            rows.append(
                {
                    "method": row["row"],
                    "measure": found["measure"],
                    "complexity": f"{least} / {', '.join(quartiles)} / {most}",
                    "slope": "-" if found["slope"] is None else f"{found['slope'][0]:.3g} to {found['slope'][1]:.3g}",
                    "clamped %": hundredths(found["clamped"]),
                    "tokens apart": f"{found['spread']:.1f}",
                    "gain over shuffled [95 %]": gains.get("shuffled", "-"),
                    "gain over constant [95 %]": gains.get("static", "-"),
                }
            )
    return Table.of(ADAPTATION, rows, ADAPTATION_NOTE, style="words", words={"measure"})


def warnings(group: Group) -> list[str]:
    """What to say of rows that do not adapt, once for all rows with the same reason."""
    rows: dict[str, list[str]] = {}
    for row in group["rows"]:
        if row["adaptation"] and (reason := row["adaptation"]["warning"]):
            rows.setdefault(reason, []).append(row["row"])
    return [f"AutoPrune does not adapt here ({', '.join(names)}): {reason}" for reason, names in rows.items()]


def classes(group: Group) -> Table:
    """Precision, recall and F1 of the nine classes."""
    rows = [
        {"row": row["row"]}
        | {
            name: " / ".join(hundredths(score[part], 0) for part in ("precision", "recall", "f1"))
            for name, score in (row["classes"] or {}).items()
        }
        for row in group["rows"]
        if group["labelled"]
    ]
    title, note = "Precision, recall and F1 of every class", "Precision / recall / F1 in %."
    return Table.of(title, rows, note, folded=True)


def stages(group: Group, timing: Mapping[str, Any]) -> Table:
    """Measured milliseconds by stage, and peak memory."""
    rows = []
    for row in group["rows"]:
        if (spent := timing["rows"].get(row["row"])) is not None:
            cells = {stage: f"{ms:.1f} / {spent['p95'][stage]:.1f}" for stage, ms in spent["p50"].items()}
            peak = spent["peak_bytes"]
            rows.append({"row": row["row"], **cells, "peak MiB": "-" if peak is None else f"{peak / 2**20:.0f}"})
    note = (
        "Milliseconds, p50 / p95, all conventions together. What methods share is counted in each. Peak memory is the "
        "accelerator's."
    )
    return Table.of("Measured time by stage", rows, note, folded=True)


def numbers(results: Mapping[str, Any], timing: Mapping[str, Any]) -> Table:
    """`results.csv`: plain numbers of every row of every convention."""
    run = {name: results[name] for name in ("status", "protocol", "on_error")}
    records = [
        run | _numbers(group, row, timing["rows"].get(row["row"]))
        for group in results["groups"]
        for row in group["rows"]
    ]
    return Table.of("", records)


def _numbers(group: Group, row: Mapping[str, Any], timing: Mapping[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "convention": group["convention"],
        **{name: group[name] for name in ("samples", "scenes", "failed")},
        **{name: row[name] for name in ("label", "method", "retention", "positions")},
        "seeds": len(row["seeds"] or []) or None,
        **{
            n: row[n]
            for n in ("accuracy", "ratio", "speed_accuracy", "path_accuracy", "balanced_accuracy", "error_cost")
        },
    }
    for name in ("accuracy", "ratio", "speed", "path", "error_cost"):
        found |= ends(name, row[f"{name}_interval"])
    found |= {n: row[n] for n in ("unparsed", "agreement")}
    found |= {n: value for n, value in (row["distribution"] or {}).items() if not n.endswith("_interval")}
    if group["labelled"]:
        found |= {f"f1_{name}": scores["f1"] for name, scores in row["classes"].items()}
        found["reference_accuracy_percent"] = row["reference"]["accuracy_percent"]
    if cost := row["cost"]:
        found |= {name: cost[name] for name in ("tokens_entering", "tokens_after", "kv_bytes")}
        found |= {f"flops_{stage}": value for stage, value in cost["flops"].items()}
    if adapted := row["adaptation"]:
        names = ("min", "q1", "median", "q3", "max")
        found |= {f"complexity_{name}": value for name, value in zip(names, adapted["complexity"], strict=True)}
        found |= ends("slope", adapted["slope"]) | {name: adapted[name] for name in ("clamped", "spread")}
    for comparison in row["comparisons"]:
        other = comparison["kind"]
        found |= {f"{n}_vs_{other}": comparison[n] for n in ("difference", "detectable", "p", "p_holm", "supported")}
        interval = ends("difference", comparison["difference_interval"])
        found |= {f"{name}_vs_{other}": value for name, value in interval.items()}
    if timing:
        found |= {f"ms_p50_{stage}": value for stage, value in timing["p50"].items()}
        found |= {"ms_p95_total": timing["p95"]["total"], "peak_bytes": timing["peak_bytes"]}
    return found
