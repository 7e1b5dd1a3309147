"""A benchmark's results as tables, and as a plot of the whole plan."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

from matplotlib.figure import Figure
from rich.table import Table

from senna_prune.benchmark.clock import Times
from senna_prune.benchmark.contest import COMPILED, Row


def all_tables(
    stages: Mapping[str, Times], floors: Mapping[str, float], rows: Sequence[Row], batches: Mapping[int, Times]
) -> list[Table]:
    """Stages before the decoder, if any; prefill, whole plan, readout alone, throughput by batch size."""
    before = [
        f"{name}|{times.p50:.1f}|{times.p95:.1f}|{_number(floors.get(name.removeprefix(COMPILED).split()[0]))}"
        for name, times in stages.items()
    ]
    first = next(iter(batches.values()))
    throughput = [
        f"{size}|{times.p50:.1f}|{1e3 / times.p50:.2f}|{times.ratio_to(first):.2f}" for size, times in batches.items()
    ]
    title = "Prefill throughput of the first method at the middle retention"
    return [
        *([_table("Before the decoder, milliseconds", "stage|p50|p95|floor", before)] if stages else []),
        prefill_table(rows),
        plan_table(rows, stages),
        readout_table(rows),
        _table(title, "batch|ms per frame|frames per second|against the first", throughput),
    ]


def _table(title: str, columns: str, rows: Iterable[str], caption: str | None = None) -> Table:
    """A table of cells between `|`, whose first column stands to the left, all others to the right."""
    table = Table(title=title, caption=caption)
    for number, name in enumerate(columns.split("|")):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row.split("|"))
    return table


def _number(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None else format(value, form)


def prefill_table(rows: Sequence[Row]) -> Table:
    bases = {row.packed: row.prefill.p50 for row in reversed(rows) if not row.compiled}
    cells = []
    for row in rows:
        deciding = "-" if row.decisions is None else f"{row.decisions:.1f} ({row.decisions / bases[row.packed]:.1%})"
        ratios = (f"{ratio:.2f}|{row.speedup / ratio:.0%}" for ratio in (row.flops_ratio, row.causal_ratio))
        times = f"{row.entering:.1f}|{row.after:.1f}|{row.prefill.p50:.1f}|{row.prefill.p95:.1f}|{row.speedup:.2f}"
        cells.append("|".join((row.name, times, *ratios, deciding, _number(row.operations, ",d"))))
    columns = "contestant|tokens in|after|p50|p95|speed-up|FLOPs ratio|share|causal ratio|share|deciding|operations"
    caption = (
        "FLOPs ratio: attention counted in full, as published; causal: without the half that SDPA skips; deciding: "
        "probe, schedule and selection; speed-ups and shares: against the unpruned prefill with the same weights, "
        "compiled alike. Operations: dispatched tensor operations without views"
    )
    return _table("Prefill, milliseconds", columns, cells, caption)


def plan_table(rows: Sequence[Row], stages: Mapping[str, Times]) -> Table:
    whole, cells = [row.plan.p50 + _before_decoder(row, stages) for row in rows], []
    for row, total in zip(rows, whole, strict=True):
        times = f"{row.name}|{row.plan.p50:.1f}|{row.plan.p95:.1f}|{row.plan_speedup:.2f}"
        with_images = f"{total:.1f}|{whole[0] / total:.2f}" if "vision" in stages else "-|-"
        floor = f"{row.floor:.1f}|{row.plan.p50 / row.floor:.1f}"
        cells.append(f"{times}|{floor}|{with_images}|{row.kv_mib:.1f}|{row.peak_mib:.0f}")
    columns = "contestant|p50|p95|speed-up|floor|x floor|with images|speed-up|KV MiB|peak MiB"
    caption = (
        "speed-up: against the first row; with images: preprocessing, tower and adapter too; peak: what a plan "
        "allocates beside weights and inputs"
    )
    return _table("Whole plan: prefill and readout, milliseconds", columns, cells, caption)


def _before_decoder(row: Row, stages: Mapping[str, Times]) -> float:
    """Milliseconds from six images to visual tokens, with the scores of the tower where the pruner asks for them."""
    kind = COMPILED if row.compiled else ""
    names = ("preprocess", f"{kind}vision with scores" if row.vision_scores else f"{kind}vision", f"{kind}adapter")
    return sum(stages[name].p50 for name in names if name in stages)


def readout_table(rows: Sequence[Row]) -> Table:
    """One pass over the answers against decoding one of them, for every pair that shares a pruner and a budget."""
    decoded = {row.name.removesuffix(", generate"): row for row in rows if row.readout == "generate"}
    unpruned = [row for row in reversed(rows) if row.readout == "generate" and row.flops_ratio == 1]
    decoded |= {"packed: none" if row.packed else "none": row for row in unpruned}
    cells = []
    for row in rows:
        name = row.name.removesuffix(", one-pass")
        for other in dict.fromkeys((name, name.removeprefix("packed: "))):
            if row.readout == "one_pass" and (against := decoded.get(other)):
                label = name if other == name else f"{name}, against generate with plain weights"
                one = f"{row.readout_ms:.0f}|{row.readout_floor:.0f}|{row.readout_ms / row.readout_floor:.1f}"
                ten = f"{against.readout_ms:.0f}|{against.readout_floor:.0f}|{against.readout_ms / row.readout_ms:.2f}"
                cells.append(f"{label}|{one}|{ten}")
    title = "Reading the plan after the prefill, milliseconds"
    return _table(title, "contestant|one pass|floor|x floor|generate|floor|times faster", cells)


def draw_plans(rows: Sequence[Row], stages: Mapping[str, Times], title: str) -> bytes:
    """A bar per contestant, stacked: encoding the images, prefill, what deciding takes of it, readout; the floor of
    prefill and readout is marked where they could end. As PNG."""
    figure = Figure(figsize=(9, 1.2 + 0.3 * len(rows)), layout="constrained")
    axes, places = figure.add_subplot(), range(len(rows))
    encoding = [_before_decoder(row, stages) for row in rows]
    deciding = [max(row.decisions or 0.0, 0.0) for row in rows]
    prefill = [row.prefill.p50 - spent for row, spent in zip(rows, deciding, strict=True)]
    bars = {"encode": (encoding, "#9aa5b1"), "prefill": (prefill, "#3b82d6"), "deciding": (deciding, "#8e44ad")}
    bars["readout"] = [row.readout_ms for row in rows], "#e0762f"
    ends = [0.0] * len(rows)
    for label, (lengths, colour) in bars.items():
        axes.barh(places, lengths, left=ends, color=colour, label=label)
        ends = [end + length for end, length in zip(ends, lengths, strict=True)]
    floors = [row.floor + before for row, before in zip(rows, encoding, strict=True)]
    axes.plot(floors, places, "|", color="black", markersize=11, label="floor of prefill and readout")
    axes.set_yticks(places, [row.name for row in rows])
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds, median")
    axes.set_title(title, loc="left", parse_math=False)
    axes.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=144)
    return out.getvalue()
