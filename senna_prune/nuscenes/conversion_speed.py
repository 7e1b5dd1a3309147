"""Measures keyframes converted per second, and estimates the memory of the full data set."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import dataclass, replace

from rich.console import Console

from senna_prune.nuscenes.conversion import ConversionSettings, make_recipe, read_scenes
from senna_prune.nuscenes.scene_samples import BOX_KINDS, scene_samples
from senna_prune.nuscenes.tables import KeyframeTables

REFERENCE_RATE = 11.0
"""Keyframes per second of the released converter on one core, without its captioner, tables loaded."""

TRAINVAL_KEYFRAMES = 34_149
TRAINVAL_SAMPLE_DATA = 2_631_083
"""Rows of v1.0-trainval."""

ROUNDS = 5
"""Rounds measured. The fastest counts: in slower ones the machine did something else as well."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes for v1.0-trainval, scaled from the tables at hand.

    Attributes:
        held: kept while converting: keyframes' records and annotations.
        parsing: while the largest table, sample_data with its sweeps, is parsed.
    """

    held: float
    parsing: float


def keyframe_rate(settings: ConversionSettings, tables: KeyframeTables) -> float:
    """Keyframes per second of one process from loaded tables to samples in memory."""
    records, _ = tables.select_scenes(settings.split, settings.scenes)
    recipe = make_recipe(tables, settings)
    fastest, keyframes = float("inf"), 0
    for _ in range(ROUNDS):
        start = time.perf_counter()
        keyframes = sum(scene_samples(scene, recipe).keyframes for scene in read_scenes(tables, records, settings))
        fastest = min(fastest, time.perf_counter() - start)
    return keyframes / fastest


def estimate_memory(settings: ConversionSettings) -> MemoryEstimate:
    """Scale the memory of these tables to v1.0-trainval, by keyframes and by rows."""
    tracemalloc.start()
    try:
        tables = KeyframeTables(settings.dataroot, settings.version, boxes=bool(BOX_KINDS & set(settings.kinds)))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        rows = len(tables.__load_table__("sample_data"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return MemoryEstimate(
        held=held / len(tables.sample) * TRAINVAL_KEYFRAMES, parsing=(peak - held) / rows * TRAINVAL_SAMPLE_DATA
    )


def print_benchmark(settings: ConversionSettings, console: Console) -> None:
    """Measure planning questions alone, then all kinds the tables can answer."""
    tables = KeyframeTables(settings.dataroot, settings.version)
    for kinds in (("plan",), ("plan", "vru", "motion")):
        chosen = replace(settings, kinds=kinds)
        rate = keyframe_rate(chosen, tables)
        memory = estimate_memory(chosen)
        console.print(
            f"{' + '.join(kinds)}: {rate:,.0f} keyframes/s, {rate / REFERENCE_RATE:,.0f} times the reference's "
            f"{REFERENCE_RATE:.0f}; v1.0-trainval needs about {memory.parsing / 2**30:.1f} GiB while its largest table "
            f"is parsed and {memory.held / 2**30:.1f} GiB after"
        )
