"""Timing: a device-aware clock, interleaved rounds, percentiles and peak memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Times:
    """Milliseconds of one contestant, a value per round."""

    rounds: tuple[float, ...]

    @property
    def p50(self) -> float:
        return float(np.percentile(self.rounds, 50))

    @property
    def p95(self) -> float:
        return float(np.percentile(self.rounds, 95))

    @property
    def best(self) -> float:
        return min(self.rounds)

    def ratio_to(self, other: Times) -> float:
        """Median over rounds of other / self: how many times faster, immune to drift of the whole machine."""
        return float(np.median(np.divide(other.rounds, self.rounds)))


def milliseconds(action: Callable[[], object], device: torch.device) -> float:
    """Time of one run: CUDA events on a GPU, the monotonic clock elsewhere."""
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        start.record()
        action()
        end.record()
        torch.cuda.synchronize(device)
        return float(start.elapsed_time(end))
    begin = time.perf_counter()
    action()
    return 1e3 * (time.perf_counter() - begin)


def interleave(
    contestants: Mapping[str, Callable[[], object]],
    device: torch.device,
    warmup: int,
    repeats: int,
    tick: Callable[[], None] = lambda: None,
    prepare: Callable[[str], None] = lambda name: None,
) -> dict[str, Times]:
    """Run all contestants once per round, so that whatever disturbs the machine disturbs them alike.

    `prepare(name)` runs before each action, untimed.
    """
    rounds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warmup + repeats):
        for name, action in contestants.items():
            prepare(name)
            taken = milliseconds(action, device)
            if number >= warmup:
                rounds[name].append(taken)
            tick()
    return {name: Times(tuple(values)) for name, values in rounds.items()}


def peak_mebibytes(action: Callable[[], object], device: torch.device) -> float:
    """Peak memory while `action` runs: allocated on a GPU; on a CPU the process's high-water mark so far."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        action()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) / 2**20
    action()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
