"""What every condition will do, before anything runs: tokens by layer and on average, FLOPs and cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from senna_prune.cost import ModelShape, decoder_flops, kv_bytes
from senna_prune.evaluation.report.text import printable, terminal
from senna_prune.evaluation.run.records import Condition
from senna_prune.evaluation.run.system import ResolvedSchedule


def explain(
    conditions: Sequence[Condition],
    schedules: Mapping[str, ResolvedSchedule],
    shape: ModelShape,
    console: Console,
) -> None:
    """Print one row per table row; seeds share their schedule."""
    first = schedules[conditions[0].id]
    table = Table(
        title=f"{shape.num_visual} visual tokens ({shape.views} views x {shape.view_tokens}), "
        f"{first.text} text tokens, {shape.layers} layers",
        title_justify="left",
    )
    table.add_column("method")
    for column in ("tokens in", "tokens after", "prefill TFLOP", "KV MiB"):
        table.add_column(column, justify="right")
    table.add_column("tokens entering layers 0, 1, ...", overflow="fold")
    notes: dict[str, str] = {}
    for condition in {condition.row: condition for condition in conditions}.values():
        schedule = schedules[condition.id]
        table.add_row(
            terminal(condition.row),
            f"{_mean(schedule.entering):.1f}",
            f"{_mean(schedule.after):.1f}",
            f"{decoder_flops(shape, schedule.entering, schedule.text) / 1e12:.4g}",
            f"{kv_bytes(shape, schedule.entering, schedule.text) / 2**20:.4g}",
            run_lengths(schedule.entering),
        )
        if remark := "; ".join(part for part in (schedule.parameter, schedule.note) if part):
            notes[condition.row] = remark
    console.print(table)
    for row, remark in notes.items():
        console.print(printable(f"  {row}: {remark}"), highlight=False, markup=False)


def run_lengths(counts: Sequence[int]) -> str:
    """`768 x2, 300, 64 x3` for 768, 768, 300, 64, 64, 64."""
    runs: list[list[int]] = []
    for count in counts:
        if runs and runs[-1][0] == count:
            runs[-1][1] += 1
        else:
            runs.append([count, 1])
    return ", ".join(f"{count} x{times}" if times > 1 else str(count) for count, times in runs)


def _mean(counts: Sequence[int]) -> float:
    return sum(counts) / len(counts)
