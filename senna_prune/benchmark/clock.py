"""Timing: a device-aware clock, interleaved rounds, percentiles, peak memory and operation counts."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


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
    """Peak memory of what `action` allocates: on a GPU as the allocator counts it, kernels' workspaces included; on a
    CPU the tensors alive at the same time, without workspaces. Weights and inputs are there before and do not count."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with LiveTensors() as live:
        action()
    return live.peak / 2**20


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of tensors made inside the context, and the most that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(x.untyped_storage()) for x in tree_leaves((args, kwargs)) if _has_storage(x)}
        out = func(*args, **(kwargs or {}))
        for tensor in filter(_has_storage, tree_leaves(out)):
            storage = tensor.untyped_storage()
            if id(storage) not in self.alive and id(storage) not in given:
                self.alive[id(storage)] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, id(storage))
        self.peak = max(self.peak, self.now)
        return out

    def _gone(self, key: int) -> None:
        self.now -= self.alive.pop(key)


class Operations(TorchDispatchMode):
    """Counts tensor operations dispatched inside the context, views left out: about the kernels a GPU would launch."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not getattr(func, "is_view", False)
        return func(*args, **(kwargs or {}))


def _has_storage(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.layout is torch.strided
