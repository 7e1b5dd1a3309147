"""One benchmark from settings to files."""

from __future__ import annotations

import datetime
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from senna_prune.benchmark.contest import contestants, run_contest, stage_floors, throughput, time_stages
from senna_prune.benchmark.floor import Hardware, measure_hardware
from senna_prune.benchmark.models import build_host
from senna_prune.benchmark.profile import write_profile
from senna_prune.benchmark.settings import BenchmarkConfig
from senna_prune.benchmark.show import all_tables, draw_plans
from senna_prune.devices import find_device
from senna_prune.model.configuration import model_shape


def run_benchmark(config: BenchmarkConfig, console: Console) -> dict[str, Any]:
    """Measure, print, and write `<output>/<name>.json`, `.txt`, `.png` and the profile. Returns the record."""
    if config.threads:
        torch.set_num_threads(config.threads)
    device = find_device(config.device, "device")
    machine = describe_machine(config, device)
    console.print(" · ".join(f"{key} {value}" for key, value in machine.items()))
    hardware = measure_hardware(device, getattr(torch, config.dtype))
    console.print(f"measured: {hardware.flops / 1e12:.3g} TFLOP/s matmul, {hardware.bytes / 1e9:.3g} GB/s copy")
    host = build_host(config, device)
    packed = build_host(config, device, packed=True) if config.packed else None
    shape = model_shape(host.config, getattr(torch, config.dtype))
    field, rounds = contestants(config, host), config.warmup + config.repeats
    total = rounds * (2 * len(field) + (4 if host.pixel_values is not None else 1) + len(config.batch_sizes))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("timing", total=total)

        def tick() -> None:
            progress.advance(task)

        stages = time_stages(config, host, tick)
        rows = run_contest(config, host, packed, shape, hardware, tick)
        batches = throughput(config, host, tick)
    floors = stage_floors(shape, host, hardware)
    tables = all_tables(stages, floors, rows, batches)
    for table in tables:
        console.print(table)
    points = {
        method: {
            retention: row.prefill.p50
            for retention in config.retentions
            for row in rows
            if row.name == f"{method} {retention:.0%}, one-pass"
        }
        for method in config.methods
    }
    if not config.milliseconds:
        console.print(f"profile for Budget.milliseconds: {write_profile(config, machine, points)}")
    record = {
        "name": config.name,
        "machine": machine,
        "hardware": asdict(hardware),
        "stages": {name: list(times.rounds) for name, times in stages.items()},
        "stage_floors": floors,
        "rows": [asdict(row) for row in rows],
        "milliseconds_per_frame_by_batch": {size: list(times.rounds) for size, times in batches.items()},
    }
    write_files(config, record, machine, hardware, tables)
    try:
        draw_plans(
            rows, f"{config.name}, {machine['device']}, {config.dtype}", Path(config.output, f"{config.name}.png")
        )
    except ImportError:
        console.print("no plot: matplotlib is not installed")
    return record


def describe_machine(config: BenchmarkConfig, device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "dtype": config.dtype,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": datetime.date.today().isoformat(),
    }


def write_files(
    config: BenchmarkConfig, record: dict[str, Any], machine: dict[str, Any], hardware: Hardware, tables: list[Any]
) -> None:
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{config.name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    with (folder / f"{config.name}.txt").open("w", encoding="utf-8") as stream:
        plain = Console(file=stream, width=220)
        plain.print(machine, hardware)
        for table in tables:
            plain.print(table)
