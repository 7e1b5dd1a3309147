"""Times unpruned baselines and every method at every retention, in turn; stages; the cost of deciding; throughput."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from senna_prune.benchmark.clock import Operations, Times, interleave, peak_mebibytes
from senna_prune.benchmark.floor import Hardware
from senna_prune.benchmark.models import TimedModel
from senna_prune.benchmark.profile import asked_milliseconds
from senna_prune.benchmark.replay import Recorder, Replay
from senna_prune.benchmark.settings import BenchmarkConfig
from senna_prune.cost import ModelShape, decoder_flops, kv_bytes, projection_flops, vision_flops
from senna_prune.planner.planner import pruner_for
from senna_prune.pruning import Budget, Pruner
from senna_prune.pruning.base import VISION

COMPILED = "compiled: "
"""How names of rows and stages begin that run as graphs."""


@dataclass(frozen=True)
class Contestant:
    """One way to make a plan; the name is unique.

    Attributes:
        readout: `generate` or `one_pass`.
        pruner: None: the model as it is, outside any `prune` context.
        attention: attention implementation.
        packed: on the model with packed weights.
        compiled: as graphs of `engine.captured`.
        method, retention: what the pruner was made from, None for baselines and for a time in milliseconds.
    """

    name: str
    readout: str
    pruner: Pruner | None
    attention: str
    packed: bool = False
    compiled: bool = False
    method: str | None = None
    retention: float | None = None


_TOLD = ("name", "method", "retention", "readout", "packed", "compiled")


@dataclass(frozen=True)
class Row:
    """What was measured of one contestant.

    Attributes:
        name, method, retention, readout, packed, compiled: of the `Contestant`.
        vision_scores: the pruner asks for scores of the vision tower.
        prefill, plan: milliseconds of the prefill alone, and of a whole plan (prefill + readout).
        readout_ms: milliseconds of reading the plan: plan less prefill, median over rounds. readout_floor: the least it
            could take on this hardware.
        operations: tensor operations a prefill dispatches; None where they are compiled, and not dispatched.
        flops_ratio: unpruned over own prefill FLOPs, attention in full as published. causal_ratio: the same, attention
            without the half that a causal kernel skips.
        speedup: measured prefill ratio to the first row with the same weight layout. plan_speedup: to the very first
            row. floor: milliseconds.
        peak_mib: of what a plan allocates beside weights and inputs.
        decisions: milliseconds spent on deciding what to prune; None where nothing is decided.
    """

    name: str
    method: str | None
    retention: float | None
    readout: str
    packed: bool
    compiled: bool
    vision_scores: bool
    entering: float
    after: float
    prefill: Times
    plan: Times
    readout_ms: float
    readout_floor: float
    operations: int | None
    flops_ratio: float
    causal_ratio: float
    speedup: float
    plan_speedup: float
    floor: float
    kv_mib: float
    peak_mib: float
    decisions: float | None


def contestants(config: BenchmarkConfig, timed: TimedModel) -> list[Contestant]:
    """Baselines first: transformers' own `generate` under each attention implementation."""
    attention = config.compare[0]
    make = partial(pruner_for, timed.model)

    def at(method: str, retention: float, readout: str) -> Contestant:
        # Twelve digits: 12.5 % is not 12 %.
        name = f"{method} {100 * retention:.12g}%, {readout.replace('_', '-')}"
        pruner = make(method, Budget.retention(retention))
        return Contestant(name, readout, pruner, attention, method=method, retention=retention)

    rows = [Contestant(f"transformers generate ({name})", "generate", None, name) for name in config.compare]
    rows.append(Contestant("none, one-pass", "one_pass", make("none", Budget.retention(1.0)), attention))
    rows += [at(method, retention, "one_pass") for method in config.methods for retention in config.retentions]
    for label, method, budget in asked_milliseconds(config):
        rows.append(Contestant(label, "one_pass", make(method, budget), attention))
    rows += [at(method, config.middle_retention, "generate") for method in config.methods]
    plain = [one for one in rows if one.attention == attention]
    if config.compiled:
        again = [one for one in plain if one.readout == "one_pass"]
        rows += [replace(one, name=f"{COMPILED}{one.name}", compiled=True) for one in again]
    if config.packed:
        rows += [replace(one, name=f"packed: {one.name}", packed=True) for one in plain]
    return rows


def run_contest(
    config: BenchmarkConfig,
    plain: TimedModel,
    packed: TimedModel | None,
    shape: ModelShape,
    hardware: Hardware,
    tick: Callable[[], None],
) -> list[Row]:
    """Time every contestant, on `plain` or on the same model `packed`; rows in the order of `contestants`."""
    field = contestants(config, plain)
    prefills: dict[str, Callable[[], Any]] = {}
    plans: dict[str, Callable[[], Any]] = {}
    named = {one.name: one for one in field}

    def home(one: Contestant) -> TimedModel:
        return packed if one.packed and packed is not None else plain

    for one in field:
        prefills[one.name] = partial(home(one).prefill, one.pruner, compiled=one.compiled)
        plans[one.name] = partial(home(one).generate, one.pruner, config.new_tokens)
        if one.readout == "one_pass" and one.pruner is not None:
            plans[one.name] = partial(home(one).one_pass, one.pruner, one.compiled)
    times = interleave(
        {f"prefill {k}": v for k, v in prefills.items()} | {f"plan {k}": v for k, v in plans.items()},
        plain.device,
        config.warmup,
        config.repeats,
        tick,
        prepare=lambda name: home(one := named[name.partition(" ")[2]]).attend_with(one.attention),
    )
    alike: dict[tuple[bool, bool], str] = {}  # prefills are compared with the first one of the same kind
    for one in field:
        alike.setdefault((one.packed, one.compiled), one.name)
    text, full = len(plain.layout.text), (plain.layout.num_visual,) * shape.layers
    weights, steps = weight_bytes(plain.model.model.language_model), config.new_tokens - 1
    rows = []
    for one in field:
        home(one).attend_with(one.attention)
        with Operations() as dispatched:
            trace = home(one).prefill(plain.captured.pruner(one.pruner) if one.compiled else one.pruner)
        entering, after = (full, full) if trace is None else (trace.samples[0].entering, trace.samples[0].after)
        prefill, plan = times[f"prefill {one.name}"], times[f"plan {one.name}"]
        ratios = (
            decoder_flops(shape, full, text, causal) / decoder_flops(shape, entering, text, causal)
            for causal in (False, True)
        )
        tokens, passes = (len(plain.trie.nodes), 1) if one.readout == "one_pass" else (steps, steps)
        tail = hardware.readout(shape, entering, text, weights, tokens, passes)
        rows.append(
            Row(
                **{name: getattr(one, name) for name in _TOLD},
                vision_scores=one.pruner is not None and VISION in one.pruner.needs,
                entering=sum(entering) / len(entering),
                after=sum(after) / len(after),
                prefill=prefill,
                plan=plan,
                readout_ms=plan.median_above(prefill),
                readout_floor=tail,
                operations=None if one.compiled else dispatched.count,
                flops_ratio=next(ratios),
                causal_ratio=next(ratios),
                speedup=prefill.ratio_to(times[f"prefill {alike[one.packed, one.compiled]}"]),
                plan_speedup=plan.ratio_to(times[f"plan {field[0].name}"]),
                floor=hardware.prefill(shape, entering, text, weights) + tail,
                kv_mib=kv_bytes(shape, entering, text) / 2**20,
                peak_mib=peak_mebibytes(plans[one.name], plain.device),
                decisions=decision_cost(home(one), one, config),
            )
        )
    return rows


def decision_cost(timed: TimedModel, one: Contestant, config: BenchmarkConfig) -> float | None:
    """Milliseconds a prefill spends on probe, schedule and selection, against a replay of the same selections; None
    where nothing is decided, or where another row has the same prefill. Best round against best round."""
    pruner = one.pruner
    if pruner is None or pruner.name == "none" or one.readout == "generate" or one.compiled:
        return None
    recorder = Recorder(pruner)
    trace = timed.prefill(recorder)
    assert trace is not None
    replay = Replay.of(recorder, trace.samples[0])
    actions = {"real": partial(timed.prefill, pruner), "replay": partial(timed.prefill, replay)}
    times = interleave(actions, timed.device, 1, config.repeats)
    # A small difference of large times: the undisturbed rounds say more than the middle ones.
    return times["real"].best - times["replay"].best


def stages_of(config: BenchmarkConfig, timed: TimedModel) -> dict[str, Callable[[], Any]]:
    """What runs before the decoder, by name; those that run as graphs begin with `COMPILED`."""
    actions: dict[str, Callable[[], Any]] = {"preprocess": timed.preprocess} if timed.images else {}
    if timed.pixel_values is not None:
        patches = timed.encode()[0]
        for kind in ("", COMPILED) if config.compiled else ("",):
            actions |= {
                f"{kind}vision": partial(timed.encode, False, bool(kind)),
                f"{kind}vision with scores": partial(timed.encode, True, bool(kind)),
                f"{kind}adapter": partial(timed.adapt, patches, bool(kind)),
            }
    return actions


def stage_floors(shape: ModelShape, timed: TimedModel, hardware: Hardware) -> dict[str, float]:
    """Floors of the vision stages, milliseconds."""
    if timed.pixel_values is None:
        return {}
    inner = timed.model.model
    adapter = weight_bytes(inner.multi_modal_projector) + weight_bytes(inner.img_adapter)
    return {
        "vision": hardware.floor(vision_flops(shape), weight_bytes(inner.vision_tower)),
        "adapter": hardware.floor(projection_flops(shape), adapter),
    }


def weight_bytes(module: torch.nn.Module) -> int:
    """Bytes of all parameters: what a pass must read at least."""
    return sum(p.numel() * p.element_size() for p in module.parameters())


def throughput(config: BenchmarkConfig, timed: TimedModel, tick: Callable[[], None]) -> dict[int, Times]:
    """Prefill milliseconds per frame by batch size, first method at the middle retention."""
    budget = Budget.retention(config.middle_retention)
    pruner = pruner_for(timed.model, config.methods[0], budget) if config.methods else None
    actions = {str(size): partial(timed.prefill, pruner, size) for size in config.batch_sizes}
    times = interleave(actions, timed.device, config.warmup, config.repeats, tick)
    return {int(size): Times(tuple(ms / int(size) for ms in taken.rounds)) for size, taken in times.items()}
