"""Converts the tables of a split into a planning set."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal, TypeVar

from rich.progress import track

from senna_prune.errors import ConfigError, TableError, one_of
from senna_prune.files import accessing, check_output, is_stream
from senna_prune.nuscenes.captions import CaptionCache, Captioner, with_captions
from senna_prune.nuscenes.ego_speed import SpeedSource, can_bus_speed
from senna_prune.nuscenes.reference_layout import write_reference
from senna_prune.nuscenes.scene import Scene, read_scene
from senna_prune.nuscenes.scene_samples import BOX_KINDS, CAPTION_KINDS, SceneResult, scene_samples
from senna_prune.nuscenes.schema import BOX_TABLES, OBJECT_TABLES, POSE_TABLES, Annotation, Record, Sample, SceneRecord
from senna_prune.nuscenes.summary import ConversionCounts, beside
from senna_prune.nuscenes.tables import KeyframeTables
from senna_prune.task.labels import CORRECTED, KINDS, Convention
from senna_prune.task.sample import PlanningSample, write_samples

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WORKERS = 128


@dataclass(frozen=True)
class ConversionSettings:
    """What to convert, and how.

    Attributes:
        dataroot: folder that holds `samples/` and the version's folder of tables.
        version: that folder's name, e.g. `v1.0-trainval`.
        out: planning set to write.
        split: devkit split or key of the version's own `splits.json`; None = all scenes.
        scenes: file of scene names that narrows the split.
        kinds: question kinds, see `KINDS`.
        convention: camera order and navigation command.
        speed_source: `auto`, `can_bus` or `past`.
        can_bus: folder of the CAN bus expansion; None = `can_bus/` in the data root.
        require_images: leave out keyframes of which an image file is missing.
        workers: processes; the result does not depend on their number.
        format: `jsonl`, or `reference` for the released converter's layout.
        caption_cache: file of captions to go on from; None = beside the planning set.
        descriptions: carry the scene table's description in every sample, for results by time of day and weather.
        objects: carry the annotated objects that its cameras see in every sample, for the audit of what is dropped.
    """

    dataroot: Path
    version: str
    out: Path
    split: str | None = None
    scenes: Path | None = None
    kinds: tuple[str, ...] = ("plan",)
    convention: Convention = CORRECTED
    speed_source: SpeedSource = "auto"
    can_bus: Path | None = None
    require_images: bool = False
    workers: int = 1
    format: Literal["jsonl", "reference"] = "jsonl"
    caption_cache: Path | None = None
    descriptions: bool = False
    objects: bool = False

    def __post_init__(self) -> None:
        for kind in self.kinds or ("",):
            one_of(kind, KINDS, "kinds", "question kind")
        if not 1 <= self.workers <= MAX_WORKERS:
            hint = f"use 1 to {MAX_WORKERS}"
            raise ConfigError(f"{self.workers} is no number of processes", where="workers", hint=hint)

    @property
    def needs_boxes(self) -> bool:
        return self.objects or bool(BOX_KINDS & set(self.kinds))

    @property
    def box_tables(self) -> tuple[type[Record], ...]:
        return OBJECT_TABLES if self.objects else BOX_TABLES if self.needs_boxes else ()


def convert(
    settings: ConversionSettings, captioner: Captioner | None = None, progress: bool = False
) -> ConversionCounts:
    """Write the planning set of a split, with a progress bar over its scenes if asked.

    Args:
        captioner: answers `traffic_light`, `description` and `explanation` questions.

    Raises:
        TableError: the tables are incomplete or broken, lack what the kinds need, or give no sample.
        ConfigError: a kind needs a captioner and there is none, or a worker process died.
        FileError, SampleError: the planning set or the captions cannot be written; said before anything is converted.
    """
    captioned = sorted(CAPTION_KINDS & set(settings.kinds))
    if captioned and captioner is None:
        raise ConfigError(f"{captioned[0]!r} questions need a captioner", where="kinds", hint="pass --captioner")
    check_output(settings.out)
    if settings.require_images or not is_stream(settings.out):
        check_output(beside(settings.out, ".missing.txt"))
    cache = None
    if captioner is not None:
        path = settings.caption_cache or beside(settings.out, ".captions.jsonl")
        if os.path.realpath(path) == os.path.realpath(settings.out):
            raise ConfigError("the captions would be lost", where=path, hint="name another file than the planning set")
        cache = CaptionCache(path)
    tables = KeyframeTables(settings.dataroot, settings.version, extra=settings.box_tables)
    records, absent = tables.select_scenes(settings.split, settings.scenes)
    report = ConversionCounts(settings.out, absent_scenes=absent)
    source = tables.digest(POSE_TABLES)
    box_source = f"{source}+{tables.digest(settings.box_tables)}" if settings.needs_boxes else ""
    sources = {kind: box_source if settings.objects or kind in BOX_KINDS else source for kind in settings.kinds}
    work = partial(scene_samples, settings=settings, sources=sources)
    found = _results(_read_scenes(tables, records, settings), work, settings.workers)
    results = track(found, "scenes", len(records), disable=not progress)
    samples: Iterator[PlanningSample] = (sample for result in results for sample in report.add(result))
    first = next(samples, None)
    if first is None:
        report.write_listing()
        raise TableError("no sample: " + "; ".join(report.skipped_lines()), where=tables.root)
    samples = chain([first], samples)
    if captioner is not None and cache is not None:
        samples = with_captions(samples, captioner, cache, settings.dataroot)
    if settings.format == "reference":
        write_reference(settings.out, samples, lambda token: tables.get(Sample, token), settings.dataroot)
    else:
        write_samples(settings.out, samples)
    report.write_listing()
    return report


def _read_scenes(
    tables: KeyframeTables, records: Iterable[SceneRecord], settings: ConversionSettings
) -> Iterator[Scene]:
    """The scenes of the given records, if annotations and CAN-bus messages that the settings ask for are there."""
    if settings.needs_boxes and not tables.all(Annotation):
        what = "objects and " if settings.objects else ""
        problem = f"{settings.version} has no annotations, which {what}{' and '.join(sorted(BOX_KINDS))} questions need"
        raise tables.error(Annotation, problem, "ask for --kinds plan, without --objects")
    folder, source = settings.can_bus or settings.dataroot / "can_bus", settings.speed_source
    with accessing(folder, "read", error=TableError):
        if source == "can_bus" and not folder.is_dir():
            hint = "unpack the CAN bus expansion there, or use --speed-source past"
            raise TableError("no CAN bus messages", where=folder, hint=hint)
        deeper = folder / "can_bus"
        if source != "past" and next(deeper.glob("scene-*_pose.json"), None):
            raise TableError("the CAN bus messages lie one folder deeper", where=deeper, hint="pass --can-bus with it")
    for record in records:
        scene = read_scene(tables, record, settings.needs_boxes, settings.objects)
        speed = None if source == "past" else can_bus_speed(folder, scene.name, scene.timestamps)
        yield replace(scene, can_speed=speed)


def _results(scenes: Iterable[Scene], work: Callable[[Scene], SceneResult], workers: int) -> Iterator[SceneResult]:
    """Scene by scene, in order."""
    if workers == 1:
        yield from map(work, scenes)
        return
    # spawned, not forked: the parent runs threads (progress bar, numerical libraries), which a fork would break
    context = multiprocessing.get_context("spawn")
    # workers ignore Ctrl-C: the parent process reports it and stops them
    quiet = (signal.SIGINT, signal.SIG_IGN)
    try:
        with ProcessPoolExecutor(workers, mp_context=context, initializer=signal.signal, initargs=quiet) as pool:
            yield from in_order(pool, work, scenes, ahead=2 * workers)
    except BrokenProcessPool as error:
        hint = "use fewer workers; memory may have run out"
        raise ConfigError("a worker process died", where="workers", hint=hint) from error


def in_order(pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """Results in the order of the items, of which no more than `ahead` are taken before their results are."""
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) == ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
