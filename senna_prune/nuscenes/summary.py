"""What a conversion read, wrote and left out: counted, printed as lines and tables, and plotted."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from senna_prune.errors import ConfigError
from senna_prune.files import accessing, is_stream, write_whole
from senna_prune.nuscenes.ego_speed import SpeedOrigin
from senna_prune.nuscenes.scene_samples import SceneResult
from senna_prune.task import labels
from senna_prune.task.sample import PlanningSample

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 5
"""Absent scenes and missing image files printed; all of the latter go to a file beside the planning set."""

ORIGINS: dict[SpeedOrigin, str] = {
    "can_bus": "from the CAN bus",
    "displacement": "from the displacement around the keyframe, which looks 0.5 s into the future,",
    "past": "from the displacement since the keyframe before",
}

COMMANDS = [command.value for command in labels.Command]
SPEEDS = [speed.value for speed in labels.Speed]
PATHS = [path.value for path in labels.Path]

Pairs = Mapping[tuple[str, str], int]


def beside(out: Path, ending: str) -> Path:
    """The file beside the planning set `out` whose name is longer by `ending`.

    Raises:
        ConfigError: `out` is a device.
    """
    if is_stream(out):
        hint = "write to a file, or leave out --summary and --require-images and pass --caption-cache"
        raise ConfigError(f"{out.name}{ending} cannot stand beside a device", where=out, hint=hint)
    return out.with_name(out.name + ending)


@dataclass
class ConversionCounts:
    """Counts of one conversion.

    Attributes:
        out: the planning set.
        scenes, keyframes: how many were read.
        absent_scenes: scenes of the split that the tables do not hold.
        speed_scenes: scenes by where their shown speed comes from.
        samples: number written, by kind.
        skipped: keyframes left out, by (kind, reason).
        missing_images: image files that `require_images` did not find, relative to the data root.
        plans: planning samples by (navigation command, answered speed, answered path).
        speeds: planning samples by shown speed in m/s.
        motions: objects of motion answers by (speed, path).
    """

    out: Path
    scenes: int = 0
    keyframes: int = 0
    absent_scenes: list[str] = field(default_factory=list)
    speed_scenes: Counter[SpeedOrigin] = field(default_factory=Counter)
    samples: Counter[str] = field(default_factory=Counter)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)
    missing_images: list[str] = field(default_factory=list)
    plans: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    speeds: Counter[int] = field(default_factory=Counter)
    motions: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, result: SceneResult) -> list[PlanningSample]:
        """Count a scene's result. Returns its samples."""
        self.scenes += 1
        self.keyframes += result.keyframes
        self.speed_scenes.update([result.speed_origin] if result.speed_origin else [])
        self.skipped.update(result.skipped)
        self.missing_images += result.missing_images
        for sample in result.samples:
            self.samples[sample.kind] += 1
            if sample.kind == "plan":
                speed, _, path = sample.answer.strip().partition(", ")
                self.plans[str(sample.command), speed, path] += 1
                self.speeds[int(sample.speed or 0)] += 1
            elif sample.kind == "motion":
                for line in sample.answer.splitlines():
                    speed, _, path = line.partition(": ")[2].partition(", ")
                    self.motions[speed, path] += 1
        return result.samples

    def skipped_lines(self) -> list[str]:
        return [f"{kind}: {count} keyframes left out: {why}" for (kind, why), count in sorted(self.skipped.items())]

    def print(self, console: Console) -> None:
        written = ", ".join(f"{count} {kind}" for kind, count in self.samples.items())
        lines = [f"{self.out}: {written} samples from {self.keyframes} keyframes of {self.scenes} scenes"]
        lines += [f"  {line}" for line in self.skipped_lines()]
        for origin, words in ORIGINS.items():
            if count := self.speed_scenes[origin]:
                lines.append(f"  speed {words} in {count} of {self.scenes} scenes")
        if self.absent_scenes:
            names = ", ".join(self.absent_scenes[:SHOWN]) + (", ..." if len(self.absent_scenes) > SHOWN else "")
            lines.append(f"  {len(self.absent_scenes)} scenes of the split are not in the tables: {names}")
        if self.missing_images:
            lines.append(f"  {len(self.missing_images)} image files are missing, listed in {self.listing}; the first:")
            lines += [f"    {path}" for path in self.missing_images[:SHOWN]]
        for line in lines:
            console.print(line)

    @property
    def listing(self) -> Path:
        """File that lists the missing images."""
        return beside(self.out, ".missing.txt")

    def write_listing(self) -> None:
        """List the missing images in a file, or remove the listing of an earlier conversion."""
        if self.missing_images:
            write_whole(self.listing, (f"{path}\n" for path in self.missing_images))
        elif not is_stream(self.out):
            with accessing(self.listing, "written"):
                self.listing.unlink(missing_ok=True)

    def by_path(self, place: int) -> Counter[tuple[str, str]]:
        """Planning samples by (navigation command, answered path), or for place 1 by meta-action."""
        pairs: Counter[tuple[str, str]] = Counter()
        for plan, count in self.plans.items():
            pairs[plan[place], plan[2]] += count
        return pairs


def print_summary(report: ConversionCounts, console: Console) -> None:
    if report.plans:
        console.print(_table("navigation command by answered path", COMMANDS, report.by_path(0)))
        console.print(_table("answered speed by path", SPEEDS, report.by_path(1)))
        speeds = Table("m/s", "samples", "", title="shown speed", title_justify="left")
        for speed in range(min(report.speeds), max(report.speeds) + 1):
            count = report.speeds[speed]
            speeds.add_row(str(speed), str(count), "#" * round(40 * count / max(report.speeds.values())))
        console.print(speeds)
    if report.motions:
        console.print(_table("objects by speed and path", SPEEDS, report.motions))


def _table(title: str, rows: Sequence[str], counts: Pairs) -> Table:
    table = Table("", title=title, title_justify="left")
    for column in (*PATHS, "all"):
        table.add_column(column, justify="right")
    numbers = [[counts.get((row, column), 0) for column in PATHS] for row in rows]
    for row, line in zip(rows, numbers, strict=True):
        table.add_row(row, *(str(number or "") for number in line), str(sum(line)))
    totals = [sum(column) for column in zip(*numbers, strict=True)]
    table.add_row("all", *map(str, totals), str(sum(totals)), style="bold")
    return table


def plot_summary(report: ConversionCounts, path: Path) -> None:
    """Plot the same distributions and of the keyframes left out; raises FileError if it cannot be written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    commands, plans, speeds, skipped = figure.subplots(2, 2).flat
    _heat_map(commands, "navigation command by answered path", COMMANDS, report.by_path(0))
    _heat_map(plans, "answered speed by path", SPEEDS, report.by_path(1))
    speeds.bar(list(report.speeds), list(report.speeds.values()))
    speeds.set(title="shown speed", xlabel="m/s", ylabel="samples")
    reasons = [f"{kind}\n{reason}" for kind, reason in sorted(report.skipped)]
    skipped.barh(reasons, [report.skipped[key] for key in sorted(report.skipped)], height=0.4)
    skipped.set(title=f"left out, of {report.keyframes} keyframes", xlabel="keyframes")
    plot = io.BytesIO()
    figure.savefig(plot, dpi=100, bbox_inches="tight", format="png")
    write_whole(path, plot.getvalue())


def _heat_map(axes: Axes, title: str, rows: Sequence[str], counts: Pairs) -> None:
    shades = [[counts.get((row, column), 0) for column in PATHS] for row in rows]
    axes.imshow(shades, cmap="Blues", aspect="auto", alpha=0.6)
    axes.set_title(title)
    axes.set_xticks(range(len(PATHS)), PATHS, rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    for y, line in enumerate(shades):
        for x, count in enumerate(line):
            if count:
                axes.text(x, y, str(count), ha="center", va="center")
