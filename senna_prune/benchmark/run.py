"""One benchmark from settings to files."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from transformers.utils import is_flash_attn_2_available

from senna_prune.benchmark.clock import interleave
from senna_prune.benchmark.contest import Row, contestants, run_contest, stage_floors, stages_of, throughput
from senna_prune.benchmark.floor import Hardware, measure_hardware
from senna_prune.benchmark.models import build_model
from senna_prune.benchmark.profile import asked_milliseconds, describe_machine, profile_path, write_profile
from senna_prune.benchmark.settings import BenchmarkConfig
from senna_prune.benchmark.show import all_tables, draw_plans
from senna_prune.devices import find_device
from senna_prune.errors import ConfigError
from senna_prune.files import check_output, write_json, write_whole


def run_benchmark(config: BenchmarkConfig, console: Console) -> dict[str, Any]:
    """Measure, print, and write `<output>/<name>.json`, `.txt`, `.png` and the profile. Returns the record.

    Raises:
        FileError: a result could not be written, found before anything is timed.
        SennaPruneError: see `build_model` and `asked_milliseconds`.
    """
    outputs = {ending: Path(config.output, f"{config.name}.{ending}") for ending in ("json", "txt", "png")}
    for path in (*outputs.values(), profile_path(config)):
        check_output(path)
    if "flash_attention_2" in config.compare and not is_flash_attn_2_available():
        raise ConfigError("flash_attention_2 is not installed", where="compare", hint="install flash-attn, or use sdpa")
    asked_milliseconds(config)  # a time that the profile cannot meet is refused before a model is built
    if config.threads:
        torch.set_num_threads(config.threads)
    device = find_device(config.device, "device")
    machine = describe_machine(config) | {"date": datetime.date.today().isoformat()}
    console.print(" · ".join(f"{key} {value}" for key, value in machine.items()), markup=False)
    hardware = measure_hardware(device, getattr(torch, config.dtype))
    console.print(f"measured: {hardware.flops / 1e12:.3g} TFLOP/s matmul, {hardware.bytes / 1e9:.3g} GB/s copy")
    with enough_memory():
        plain = build_model(config, device)
        packed = build_model(config, device, packed=True) if config.packed else None
        encoding = stages_of(config, plain)
    shape = plain.shape(getattr(torch, config.dtype))
    field, rounds = contestants(config, plain), config.warmup + config.repeats
    total = rounds * (2 * len(field) + len(encoding) + len(config.batch_sizes))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with enough_memory(), Progress(*columns, console=console, transient=True) as progress:
        tick = partial(progress.advance, progress.add_task("timing", total=total))
        stages = interleave(encoding, plain.device, config.warmup, config.repeats, tick)
        rows = run_contest(config, plain, packed, shape, hardware, tick)
        batches = throughput(config, plain, tick)
    floors = stage_floors(shape, plain, hardware)
    tables = all_tables(stages, floors, rows, batches)
    for table in tables:
        console.print(table)
    if not config.milliseconds:
        path = write_profile(config, prefill_times(rows))
        console.print(f"profile for Budget.milliseconds: {path}", markup=False)
    record = {
        "name": config.name,
        "machine": machine,
        "hardware": asdict(hardware),
        "stages": {name: list(times.rounds) for name, times in stages.items()},
        "stage_floors": floors,
        "rows": [asdict(row) for row in rows],
        "milliseconds_per_frame_by_batch": {size: list(times.rounds) for size, times in batches.items()},
    }
    write_json(outputs["json"], record)
    write_whole(outputs["txt"], plain_text(machine, hardware, tables))
    write_whole(outputs["png"], draw_plans(rows, stages, f"{config.name}, {machine['device']}, {config.dtype}"))
    return record


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn running out of memory, which torch reports in two ways, into one line."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        hint = "use smaller batch_sizes, a smaller dtype or a smaller host"
        raise ConfigError("the memory of the device does not suffice", where="benchmark", hint=hint) from error


def prefill_times(rows: Sequence[Row]) -> dict[str, dict[float, float]]:
    """Median prefill milliseconds by method and retention, with plain weights."""
    times: dict[str, dict[float, float]] = {}
    for row in rows:
        if row.method and row.retention and row.readout == "one_pass" and not (row.packed or row.compiled):
            times.setdefault(row.method, {})[row.retention] = row.prefill.p50
    return times


def plain_text(machine: dict[str, Any], hardware: Hardware, tables: Sequence[Table]) -> str:
    """What was printed, wide enough for every table."""
    console = Console(file=io.StringIO(), width=220, record=True)
    for parts in ((machine, hardware), *((table,) for table in tables)):
        console.print(*parts)
    return console.export_text()
