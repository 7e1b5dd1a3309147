"""The contest: unpruned baselines against every method and retention, interleaved; stages; decisions; throughput."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from senna_prune.benchmark.clock import Times, interleave, peak_mebibytes
from senna_prune.benchmark.floor import Hardware
from senna_prune.benchmark.hosts import BenchHost
from senna_prune.benchmark.profile import asked_milliseconds
from senna_prune.benchmark.replay import Recorder, Replay
from senna_prune.benchmark.settings import BenchmarkConfig
from senna_prune.evaluation.cost import (
    ModelShape,
    decoder_flops,
    kv_bytes,
    projection_flops,
    readout_flops,
    vision_flops,
)
from senna_prune.planning.planner import pruner_for
from senna_prune.pruning import Budget, Pruner


@dataclass(frozen=True)
class Row:
    """One contestant.

    Attributes:
        prefill, plan: milliseconds of the prefill alone, and of a whole plan (prefill + readout).
        readout: how the plan is read.
        flops_ratio: unpruned over own prefill FLOPs. speedup: measured prefill ratio. floor: milliseconds.
        decisions: milliseconds spent on deciding what to prune; None where nothing is decided.
    """

    name: str
    readout: str
    entering: float
    after: float
    prefill: Times
    plan: Times
    flops_ratio: float
    speedup: float
    plan_speedup: float
    floor: float
    kv_mib: float
    peak_mib: float
    decisions: float | None


@dataclass(frozen=True)
class Contestant:
    name: str
    readout: str
    pruner: Pruner | None
    attention: str


def contestants(config: BenchmarkConfig, host: BenchHost) -> list[Contestant]:
    """Baselines first: transformers' own `generate` under each attention implementation."""
    make = partial(pruner_for, host.model)
    rows = [Contestant(f"transformers generate ({name})", "generate", None, name) for name in config.compare]
    rows.append(Contestant("none, one-pass", "one_pass", make("none", Budget.retention(1.0)), config.compare[0]))
    for method in config.methods:
        for retention in config.retentions:
            label = f"{method} {retention:.0%}"
            rows.append(
                Contestant(
                    f"{label}, one-pass", "one_pass", make(method, Budget.retention(retention)), config.compare[0]
                )
            )
    for label, method, budget in asked_milliseconds(config):
        rows.append(Contestant(label, "one_pass", make(method, budget), config.compare[0]))
    middle = min(config.retentions, key=lambda r: abs(r - 0.25))
    for method in config.methods:
        name = f"{method} {middle:.0%}, generate"
        rows.append(Contestant(name, "generate", make(method, Budget.retention(middle)), config.compare[0]))
    return rows


def run_contest(
    config: BenchmarkConfig, host: BenchHost, shape: ModelShape, hardware: Hardware, tick: Callable[[], None]
) -> list[Row]:
    """Time every contestant; rows in the order of `contestants`."""
    rows, field = [], contestants(config, host)
    prefills: dict[str, Callable[[], Any]] = {}
    plans: dict[str, Callable[[], Any]] = {}
    attention = {one.name: one.attention for one in field}
    for one in field:
        prefills[one.name] = partial(host.prefill, one.pruner)
        plans[one.name] = partial(host.generate, one.pruner, config.new_tokens)
        if one.readout == "one_pass" and one.pruner is not None:
            plans[one.name] = partial(host.one_pass, one.pruner)
    timed = interleave(
        {f"prefill {k}": v for k, v in prefills.items()} | {f"plan {k}": v for k, v in plans.items()},
        host.device,
        config.warmup,
        config.repeats,
        tick,
        prepare=lambda name: host.attend_with(attention[name.partition(" ")[2]]),
    )
    host.attend_with(config.compare[0])
    text, base = len(host.layout.text), field[0].name
    full = (host.layout.num_visual,) * shape.layers
    whole = decoder_flops(shape, full, text)
    weights = weight_bytes(host.model.model.language_model)
    for one in field:
        entering, after = full, full
        if one.pruner is not None and (trace := host.prefill(one.pruner)) is not None:
            entering, after = trace.samples[0].entering, trace.samples[0].after
        flops = decoder_flops(shape, entering, text)
        prefill, plan = timed[f"prefill {one.name}"], timed[f"plan {one.name}"]
        if one.readout == "one_pass":
            count = len(host.trie.nodes)
            tail = hardware.floor(readout_flops(shape, entering, text, count), weights)
        else:
            flops_per_token = readout_flops(shape, entering, text, config.new_tokens - 1) / config.new_tokens
            tail = config.new_tokens * hardware.floor(flops_per_token, weights)
        rows.append(
            Row(
                name=one.name,
                readout=one.readout,
                entering=sum(entering) / len(entering),
                after=sum(after) / len(after),
                prefill=prefill,
                plan=plan,
                flops_ratio=whole / flops,
                speedup=prefill.ratio_to(timed[f"prefill {base}"]),
                plan_speedup=plan.ratio_to(timed[f"plan {base}"]),
                floor=hardware.floor(flops, weights) + tail,
                kv_mib=kv_bytes(shape, entering, text) / 2**20,
                peak_mib=peak_mebibytes(plans[one.name], host.device),
                decisions=decision_cost(host, one.pruner, config),
            )
        )
    return rows


def decision_cost(host: BenchHost, pruner: Pruner | None, config: BenchmarkConfig) -> float | None:
    """Milliseconds a prefill spends on probe, schedule and selection, against a replay of the same selections; None
    where nothing is decided."""
    if pruner is None or pruner.name == "none":
        return None
    recorder = Recorder(pruner)
    trace = host.prefill(recorder)
    assert trace is not None
    replay = Replay.of(recorder, trace.samples[0])
    timed = interleave(
        {"real": partial(host.prefill, pruner), "replay": partial(host.prefill, replay)},
        host.device,
        1,
        config.repeats,
    )
    differences = torch.tensor(timed["real"].rounds) - torch.tensor(timed["replay"].rounds)
    return float(differences.median())


def time_stages(config: BenchmarkConfig, host: BenchHost, tick: Callable[[], None]) -> dict[str, Times]:
    """Everything before the decoder."""
    actions: dict[str, Callable[[], Any]] = {"preprocess": host.preprocess}
    if host.pixel_values is not None:
        patches = host.see()[0]
        actions |= {
            "vision": host.see,
            "vision with evidence": partial(host.see, True),
            "adapter": partial(host.adapt, patches),
        }
    return interleave(actions, host.device, config.warmup, config.repeats, tick)


def stage_floors(shape: ModelShape, host: BenchHost, hardware: Hardware) -> dict[str, float]:
    """Floors of the vision stages, milliseconds."""
    if host.pixel_values is None:
        return {}

    inner = host.model.model
    adapter = weight_bytes(inner.multi_modal_projector) + weight_bytes(inner.img_adapter)
    return {
        "vision": hardware.floor(vision_flops(shape), weight_bytes(inner.vision_tower)),
        "adapter": hardware.floor(projection_flops(shape), adapter),
    }


def weight_bytes(module: torch.nn.Module) -> int:
    """Bytes of all parameters: what a pass must read at least."""
    return sum(p.numel() * p.element_size() for p in module.parameters())


def throughput(config: BenchmarkConfig, host: BenchHost, tick: Callable[[], None]) -> dict[int, Times]:
    """Prefill milliseconds per frame by batch size, first method at the middle retention."""
    middle = min(config.retentions, key=lambda r: abs(r - 0.25))
    pruner = pruner_for(host.model, config.methods[0], Budget.retention(middle)) if config.methods else None
    actions = {str(size): partial(host.prefill, pruner, size) for size in config.batch_sizes}
    timed = interleave(actions, host.device, config.warmup, config.repeats, tick)
    return {int(size): Times(tuple(ms / int(size) for ms in times.rounds)) for size, times in timed.items()}
