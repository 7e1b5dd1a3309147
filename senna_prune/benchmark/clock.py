"""Timing: a device-aware clock, interleaved rounds, percentiles, peak memory and operation counts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode


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

    def median_above(self, other: Times) -> float:
        """Median over rounds of self - other."""
        return float(np.median(np.subtract(self.rounds, other.rounds)))


def milliseconds(action: Callable[[], object], device: torch.device) -> float:
    """Time of one run: CUDA events on a GPU, the monotonic clock elsewhere."""
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        # Events are recorded on the current device, whatever device the model is on.
        with torch.cuda.device(device):
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
    """Peak memory of what `action` allocates, as torch's allocator counts it, with the workspaces of kernels and what
    compiled code allocates; weights and inputs are there before and do not count."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler says on stderr that it starts and stops
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        action()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(path))
        events = json.loads(path.read_bytes())["traceEvents"]
    changes = sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"])
    return max(accumulate((change["args"]["Bytes"] for change in changes), initial=0)) / 2**20


class Operations(TorchDispatchMode):
    """Counts tensor operations dispatched inside the context, views left out: about the kernels a GPU would launch."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not getattr(func, "is_view", False)
        return func(*args, **(kwargs or {}))
