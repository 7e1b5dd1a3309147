"""A driving stack's planning loop: keyframes arrive at 2 Hz, each gets a plan, latencies become a histogram.

python examples/planner_loop.py                       # 20 s of the demo set, as fast as a car would see it
python examples/planner_loop.py --hurry --frames 100  # the same without waiting for the next keyframe
"""

# ruff: noqa: T201 - its output is what it prints

from __future__ import annotations

import argparse
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import quantiles

from senna_prune.errors import SennaPruneError
from senna_prune.model.checkpoint import load_senna
from senna_prune.planner.planner import Plan, Planner, pruner_for
from senna_prune.pruning import Budget
from senna_prune.task.sample import read_samples

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo"
PERIOD = 0.5
"""Seconds between keyframes."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(DEMO / "model"), help="checkpoint folder")
    parser.add_argument("--planning-set", type=Path, default=DEMO / "planning_set.jsonl")
    parser.add_argument("--image-root", type=Path, default=DEMO)
    parser.add_argument("--method", default="autoprune", help="pruning method; none keeps all tokens")
    parser.add_argument("--retention", type=float, default=0.25, help="mean share of visual tokens entering a layer")
    parser.add_argument("--readout", default="one_pass", help="generate, constrained or one_pass")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--hurry", action="store_true", help="do not wait for the next keyframe")
    return parser.parse_args(arguments)


def make_planner(options: argparse.Namespace) -> Planner:
    model, processor = load_senna(options.model, device=options.device)
    budget = None if options.method == "none" else Budget.retention(options.retention)
    return Planner(model, processor, pruner_for(model, options.method, budget), options.readout)


def drive(planner: Planner, options: argparse.Namespace) -> list[float]:
    """Plan every keyframe of the stream; returns the latencies, seconds from its arrival to its plan."""
    keyframes = [
        (sample.token, sample.images, sample.speed, sample.command)
        for sample in read_samples(options.planning_set)
        if sample.speed is not None and sample.command is not None
    ]
    latencies = []
    arrival = time.perf_counter()
    for token, paths, speed, command in islice(cycle(keyframes), options.frames):
        # A keyframe that arrives while the last one is still being planned waits, and its latency says so.
        time.sleep(max(0.0, arrival - time.perf_counter()))
        images = {camera: options.image_root / path for camera, path in paths.items()}
        plan = planner.plan(images, speed, command)
        latencies.append(time.perf_counter() - arrival)
        print(describe(token, plan, latencies[-1]))
        arrival = time.perf_counter() if options.hurry else arrival + PERIOD
    return latencies


def describe(token: str, plan: Plan, latency: float) -> str:
    stages = "  ".join(f"{stage} {time:.0f}" for stage, time in vars(plan.timing).items())
    tokens = sum(plan.trace.entering) / len(plan.trace.entering)
    return f"{token[:8]:8}  {plan.text:26}  {1e3 * latency:6.0f} ms  ({stages})  {tokens:.0f} visual tokens"


def histogram(latencies: list[float], bins: int = 12) -> str:
    """Latencies as bars of equal width, with their quantiles and the share that missed the next keyframe."""
    low, high = min(latencies), max(latencies)
    width = (high - low) / bins or 1e-3
    counts = [0] * bins
    for latency in latencies:
        counts[min(int((latency - low) / width), bins - 1)] += 1
    lines = [
        f"{1e3 * (low + i * width):7.0f} ms {'#' * round(50 * count / max(counts)):50} {count}"
        for i, count in enumerate(counts)
    ]
    percentiles = quantiles(latencies, n=100, method="inclusive") if len(latencies) > 1 else latencies * 99
    median, tail = 1e3 * percentiles[49], 1e3 * percentiles[94]
    late = sum(latency > PERIOD for latency in latencies)
    lines.append(f"median {median:.0f} ms, 95 % within {tail:.0f} ms, worst {1e3 * high:.0f} ms")
    lines.append(f"{late} of {len(latencies)} plans came later than the next keyframe")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        print(histogram(drive(make_planner(options), options)))
    except SennaPruneError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
