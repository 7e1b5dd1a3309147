"""Tables in, planning set out."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from rich.progress import track

from senna_prune.errors import ConfigError, TableError
from senna_prune.nuscenes.ego_speed import SpeedSource, can_bus_speed
from senna_prune.nuscenes.scene import Scene, read_scene
from senna_prune.nuscenes.scene_samples import BOX_KINDS, KINDS, Recipe, SceneResult, scene_samples
from senna_prune.nuscenes.tables import BOX_TABLES, POSE_TABLES, KeyframeTables
from senna_prune.planning.labels import CORRECTED, Convention
from senna_prune.planning.sample import PlanningSample, write_samples


@dataclass(frozen=True)
class ConversionSettings:
    """What to convert, and how.

    Attributes:
        dataroot: folder that holds `samples/`, the version's tables and, if present, `can_bus/`.
        version: folder of tables, e.g. `v1.0-trainval`.
        out: planning set to write.
        split: devkit split or key of the version's own `splits.json`; None = all scenes.
        scenes: file of scene names that narrows the split.
        kinds: question kinds, see `KINDS`.
        convention: camera order and navigation command.
        speed_source: `auto`, `can_bus` or `past`.
        require_images: leave out keyframes of which an image file is missing.
        workers: processes; the result does not depend on their number.
    """

    dataroot: Path
    version: str
    out: Path
    split: str | None = None
    scenes: Path | None = None
    kinds: tuple[str, ...] = ("plan",)
    convention: Convention = CORRECTED
    speed_source: SpeedSource = "auto"
    require_images: bool = False
    workers: int = 1

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ConfigError("no question kind is asked for", where="kinds", mend=f"use {', '.join(KINDS)}")
        for kind in self.kinds:
            if kind not in KINDS:
                raise ConfigError(f"unknown question kind {kind!r}", where="kinds", mend=f"use {', '.join(KINDS)}")
        if self.workers < 1:
            raise ConfigError(f"{self.workers} is no number of processes", where="workers", mend="use 1 or more")


@dataclass
class ConversionReport:
    """What a conversion read, wrote and left out.

    Attributes:
        scenes, keyframes: how many were read.
        absent_scenes: scenes of the split that the tables do not hold.
        samples: number written, by kind.
        skipped: keyframes left out, by (kind, reason).
        missing_images: image files that `require_images` did not find, relative to the data root.
        commands: planning samples by (navigation command, answer).
        speeds: planning samples by shown speed in m/s.
    """

    out: Path
    scenes: int = 0
    keyframes: int = 0
    absent_scenes: list[str] = field(default_factory=list)
    samples: Counter[str] = field(default_factory=Counter)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)
    missing_images: list[str] = field(default_factory=list)
    commands: Counter[tuple[str, str]] = field(default_factory=Counter)
    speeds: Counter[int] = field(default_factory=Counter)

    def add(self, result: SceneResult) -> None:
        self.scenes += 1
        self.keyframes += result.keyframes
        self.skipped.update(result.skipped)
        self.missing_images += result.missing_images
        for sample in result.samples:
            self.samples[sample.kind] += 1
            if sample.kind == "plan":
                self.commands[sample.command or "", sample.answer.strip()] += 1
                self.speeds[int(sample.speed or 0)] += 1


def convert(settings: ConversionSettings, progress: bool = False) -> ConversionReport:
    """Write the planning set of a split, with a progress bar over its scenes if asked.

    Raises:
        TableError: the tables are incomplete or broken, lack what the kinds need, or give no sample.
    """
    tables = KeyframeTables(settings.dataroot, settings.version, boxes=bool(BOX_KINDS & set(settings.kinds)))
    records, absent = tables.select_scenes(settings.split, settings.scenes)
    report = ConversionReport(settings.out, absent_scenes=absent)
    scenes = track(read_scenes(tables, records, settings), "scenes", len(records), disable=not progress)
    samples = _samples(scenes, make_recipe(tables, settings), settings.workers, report)
    first = next(samples, None)
    if first is None:
        reasons = ", ".join(f"{kind}: {count}, {reason}" for (kind, reason), count in sorted(report.skipped.items()))
        raise TableError(f"no sample in {report.keyframes} keyframes ({reasons})", where=tables.table_root)
    write_samples(settings.out, chain([first], samples))
    return report


def make_recipe(tables: KeyframeTables, settings: ConversionSettings) -> Recipe:
    pose_digest = tables.digest(POSE_TABLES)
    box_digest = tables.digest(POSE_TABLES + BOX_TABLES) if BOX_KINDS & set(settings.kinds) else ""
    return Recipe(
        kinds=frozenset(settings.kinds),
        convention=settings.convention,
        speed_source=settings.speed_source,
        sources={kind: box_digest if kind in BOX_KINDS else pose_digest for kind in settings.kinds},
        image_root=settings.dataroot if settings.require_images else None,
    )


def read_scenes(
    tables: KeyframeTables, records: Iterable[Mapping[str, Any]], settings: ConversionSettings
) -> Iterator[Scene]:
    """The scenes of the given records as arrays, one after the other.

    Raises:
        TableError: the tables are broken, or lack the annotations or CAN-bus messages the settings ask for.
    """
    boxes = bool(BOX_KINDS & set(settings.kinds))
    if boxes and not tables.sample_annotation:
        problem = f"{settings.version} has no annotations, which {' and '.join(sorted(BOX_KINDS))} questions need"
        raise TableError(problem, where=tables.table_path("sample_annotation"), mend="ask for --kinds plan")
    can_bus = settings.dataroot / "can_bus"
    if settings.speed_source == "can_bus" and not can_bus.is_dir():
        mend = "unpack the CAN bus expansion there, or use --speed-source past"
        raise TableError("no CAN bus messages", where=can_bus, mend=mend)
    for record in records:
        scene = read_scene(tables, record, boxes)
        if settings.speed_source != "past":
            scene = replace(scene, can_speed=can_bus_speed(can_bus, scene.name, scene.timestamps))
        yield scene


def _samples(
    scenes: Iterable[Scene], recipe: Recipe, workers: int, report: ConversionReport
) -> Iterator[PlanningSample]:
    work = partial(scene_samples, recipe=recipe)
    with contextlib.ExitStack() as stack:
        if workers == 1:
            results: Iterable[SceneResult] = map(work, scenes)
        else:
            # spawned, not forked: the parent has threads of the progress bar and of numerical libraries
            results = stack.enter_context(multiprocessing.get_context("spawn").Pool(workers)).imap(work, scenes)
        for result in results:
            report.add(result)
            yield from result.samples
