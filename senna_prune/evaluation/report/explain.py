"""What every condition will do, before anything runs: tokens by layer and on average, FLOPs and cache; and how many
samples a wanted difference needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from rich.console import Console
from rich.table import Table

from senna_prune.cli import counted
from senna_prune.cost import ModelShape, decoder_flops, kv_bytes
from senna_prune.evaluation.report.table import printable, terminal
from senna_prune.evaluation.run.records import UNPRUNED, Condition
from senna_prune.evaluation.run.system import ResolvedSchedule
from senna_prune.evaluation.score.statistics import ALPHA, POWER, detectable_of, samples_needed
from senna_prune.task.sample import PlanningSample

DISCORDANT = (0.1, 0.2, 0.3)
"""Shares of samples that only one of two methods has right, for which needs are shown: pruning at 20 to 40 % changes so
many on the demo."""


def explain(
    conditions: Sequence[Condition],
    schedules: Mapping[str, ResolvedSchedule],
    shape: ModelShape,
    console: Console,
    listed: Set[str],
) -> None:
    """Print one row per table row; seeds share their schedule. Labels that are not `listed` were added as controls."""
    first = schedules[conditions[0].id]
    if not first.entering:
        return console.print("no visual tokens: the system tells no schedule")
    table = Table(
        title=f"{shape.num_visual} visual tokens ({shape.views} views x {shape.view_tokens}), "
        f"{first.text} text tokens, {shape.layers} layers",
        title_justify="left",
    )
    table.add_column("method")
    table.add_column("positions")
    for column in ("tokens in", "tokens after", "prefill TFLOP", "KV MiB"):
        table.add_column(column, justify="right")
    table.add_column("tokens entering layers 0, 1, ...", overflow="fold")
    notes: dict[str, str] = {}
    for condition in {condition.row: condition for condition in conditions}.values():
        schedule = schedules[condition.id]
        table.add_row(
            terminal(condition.row),
            condition.positions or "-",
            f"{_mean(schedule.entering):.1f}",
            f"{_mean(schedule.after):.1f}",
            f"{decoder_flops(shape, schedule.entering, schedule.text) / 1e12:.4g}",
            f"{kv_bytes(shape, schedule.entering, schedule.text) / 2**20:.4g}",
            run_lengths(schedule.entering),
        )
        added = "" if condition.label in {UNPRUNED, *listed} else "control added for the methods with its positions"
        if remark := "; ".join(part for part in (added, schedule.parameter, schedule.note) if part):
            notes[condition.row] = remark
    console.print(table)
    for row, remark in notes.items():
        console.print(printable(f"  {row}: {remark}"), highlight=False, markup=False)


def explain_power(difference: float, samples: Sequence[PlanningSample], seeds: int, console: Console) -> None:
    """Print how many samples show a difference of two methods, and what the questions at hand can show.

    Args:
        difference: wanted, as a share of the samples.
        samples: of the planning set; only those of one kind and convention are compared with each other.
        seeds: of every seeded method.
    """

    def say(text: str) -> None:
        console.print(text, highlight=False)

    say(
        f"To detect a difference of {100 * difference:g} points ({100 * POWER:.0f} % power, {100 * ALPHA:.0f} % level, "
        "paired, sign-flip test by scenes):"
    )
    for share in DISCORDANT:
        needed = samples_needed(difference, share)
        need = "is impossible" if needed is None else f"needs {counted(needed, 'independent sample')}"
        say(f"  {need} where only one method is right on {100 * share:.0f} % of them")
    groups: dict[tuple[str, str], list[str]] = {}
    for sample in samples:
        groups.setdefault((sample.kind, sample.convention.name), []).append(sample.scene)
    for (kind, convention), of_group in groups.items():
        scenes = len(set(of_group))
        found = " / ".join(_points(len(of_group), share) for share in DISCORDANT)
        size = f"{counted(len(of_group), 'question')} of {counted(scenes, 'scene')}"
        worst = f", at worst {_points(scenes, DISCORDANT[1])} in the middle" if scenes < len(of_group) else ""
        say(f"  {kind}, convention {convention}: {size} detect {found} there{worst}")
    if len({sample.scene for sample in samples}) < len(samples):
        say(
            "  Samples of one scene are alike and count for less; at worst a scene counts for one sample. Every "
            "comparison of the finished run states its own."
        )
    if seeds > 1:
        say(f"  Where answers under {seeds} seeds are independent, 1/{seeds} of the samples is enough.")


def _points(samples: int, discordant: float) -> str:
    least = detectable_of(samples, discordant)
    return "nothing" if least is None else f"{100 * least:.1f} points"


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
