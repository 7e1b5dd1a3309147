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
from rich.table import Table

from senna_prune.benchmark.clock import Times
from senna_prune.benchmark.contest import Row, contestants, run_contest, stage_floors, throughput, time_stages
from senna_prune.benchmark.floor import Hardware, measure_hardware
from senna_prune.benchmark.hosts import build_host
from senna_prune.benchmark.profile import write_profile
from senna_prune.benchmark.settings import BenchmarkConfig
from senna_prune.evaluation.senna_system import model_shape


def run_benchmark(config: BenchmarkConfig, console: Console) -> dict[str, Any]:
    """Measure, print, and write `<output>/<name>.json`, `.txt` and the profile. Returns the record."""
    if config.threads:
        torch.set_num_threads(config.threads)
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    )
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
    tables = [stage_table(stages, floors), prefill_table(rows), plan_table(rows), readout_table(rows)]
    tables.append(batch_table(batches))
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


def prefill_table(rows: list[Row]) -> Table:
    table = Table(title="Prefill, milliseconds")
    bases = {row.packed: row.prefill.p50 for row in reversed(rows)}
    table.add_column("contestant")
    for name in ("tokens in", "after", "p50", "p95", "speed-up", "FLOPs ratio", "share", "causal ratio", "share"):
        table.add_column(name, justify="right")
    table.add_column("deciding", justify="right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.entering:.1f}",
            f"{row.after:.1f}",
            f"{row.prefill.p50:.1f}",
            f"{row.prefill.p95:.1f}",
            f"{row.speedup:.2f}",
            f"{row.flops_ratio:.2f}",
            f"{row.speedup / row.flops_ratio:.0%}",
            f"{row.causal_ratio:.2f}",
            f"{row.speedup / row.causal_ratio:.0%}",
            "-" if row.decisions is None else f"{row.decisions:.1f} ({row.decisions / bases[row.packed]:.1%})",
        )
    table.caption = (
        "FLOPs ratio: attention counted in full, as published; causal: without the half that SDPA skips; deciding: "
        "probe, schedule and selection; speed-ups and shares: against the unpruned prefill with the same weight layout"
    )
    return table


def plan_table(rows: list[Row]) -> Table:
    table = Table(title="Whole plan: prefill and readout, milliseconds")
    for name in ("contestant", "p50", "p95", "speed-up", "floor", "x floor", "KV MiB", "peak MiB"):
        table.add_column(name, justify="left" if name == "contestant" else "right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.plan.p50:.1f}",
            f"{row.plan.p95:.1f}",
            f"{row.plan_speedup:.2f}",
            f"{row.floor:.1f}",
            f"{row.plan.p50 / row.floor:.1f}",
            f"{row.kv_mib:.1f}",
            f"{row.peak_mib:.0f}",
        )
    table.caption = "speed-up: against the first row; peak: what a plan allocates beside weights and inputs"
    return table


def readout_table(rows: list[Row]) -> Table:
    """One pass over the answers against decoding one of them, for every pair that shares a pruner and a budget."""
    table = Table(title="Reading the plan after the prefill, milliseconds")
    for name in ("contestant", "one pass", "generate", "times faster"):
        table.add_column(name, justify="left" if name == "contestant" else "right")
    decoded = {row.name.removesuffix(", generate"): row for row in rows if row.readout == "generate"}
    for row in rows:
        name = row.name.removesuffix(", one-pass")
        for other in dict.fromkeys((name, name.removeprefix("packed: "))):
            if row.readout == "one_pass" and (against := decoded.get(other)):
                label = name if other == name else f"{name}, against generate with plain weights"
                ratio = against.readout_ms / row.readout_ms
                table.add_row(label, f"{row.readout_ms:.0f}", f"{against.readout_ms:.0f}", f"{ratio:.2f}")
    return table


def stage_table(stages: dict[str, Times], floors: dict[str, float]) -> Table:
    table = Table(title="Before the decoder, milliseconds")
    for name in ("stage", "p50", "p95", "floor"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for name, times in stages.items():
        floor = floors.get(name.split()[0])
        table.add_row(name, f"{times.p50:.1f}", f"{times.p95:.1f}", "-" if floor is None else f"{floor:.1f}")
    return table


def batch_table(batches: dict[int, Times]) -> Table:
    table = Table(title="Prefill throughput of the first method at the middle retention")
    for name in ("batch", "ms per frame", "frames per second", "against the first"):
        table.add_column(name, justify="right")
    first = next(iter(batches.values()))
    for size, times in batches.items():
        table.add_row(str(size), f"{times.p50:.1f}", f"{1e3 / times.p50:.2f}", f"{times.ratio_to(first):.2f}")
    return table


def write_files(
    config: BenchmarkConfig, record: dict[str, Any], machine: dict[str, Any], hardware: Hardware, tables: list[Table]
) -> None:
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{config.name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    with (folder / f"{config.name}.txt").open("w", encoding="utf-8") as stream:
        plain = Console(file=stream, width=220)
        plain.print(machine, hardware)
        for table in tables:
            plain.print(table)
