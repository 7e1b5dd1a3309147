"""What a conversion read, wrote and left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from senna_prune.errors import ConfigError
from senna_prune.files import accessing, is_stream, write_whole
from senna_prune.nuscenes.ego_speed import SpeedOrigin
from senna_prune.nuscenes.scene_samples import SceneResult
from senna_prune.task.sample import PlanningSample

SHOWN = 5
"""Absent scenes and missing image files printed; all of the latter go to a file beside the planning set."""

ORIGINS: dict[SpeedOrigin, str] = {
    "can_bus": "from the CAN bus",
    "displacement": "from the displacement around the keyframe, which looks 0.5 s into the future,",
    "past": "from the displacement since the keyframe before",
}


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
        speed_scenes: scenes by where their shown speed comes from.
        absent_scenes: scenes of the split that the tables do not hold.
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
        if result.speed_origin:
            self.speed_scenes[result.speed_origin] += 1
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
        return [
            f"{kind}: {count} keyframes left out: {reason}" for (kind, reason), count in sorted(self.skipped.items())
        ]

    def print(self, console: Console) -> None:
        written = ", ".join(f"{count} {kind}" for kind, count in self.samples.items())
        console.print(f"{self.out}: {written} samples from {self.keyframes} keyframes of {self.scenes} scenes")
        for line in self.skipped_lines():
            console.print(f"  {line}")
        for origin, words in ORIGINS.items():
            if count := self.speed_scenes[origin]:
                console.print(f"  speed {words} in {count} of {self.scenes} scenes")
        if self.absent_scenes:
            names = ", ".join(self.absent_scenes[:SHOWN]) + (", ..." if len(self.absent_scenes) > SHOWN else "")
            console.print(f"  {len(self.absent_scenes)} scenes of the split are not in the tables: {names}")
        if self.missing_images:
            console.print(f"  {len(self.missing_images)} image files are missing, listed in {self.listing}; the first:")
            for path in self.missing_images[:SHOWN]:
                console.print(f"    {path}")

    @property
    def listing(self) -> Path:
        """File that lists the missing images."""
        return beside(self.out, ".missing.txt")

    def write_listing(self) -> None:
        """List the missing images in a file, or remove the listing of an earlier conversion."""
        if self.missing_images:
            write_whole(self.listing, (f"{path}\n" for path in self.missing_images))
            return
        if not is_stream(self.out):
            with accessing(self.listing, "written"):
                self.listing.unlink(missing_ok=True)
