"""Times of the stages of one decision."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch


@dataclass(frozen=True)
class Timing:
    """Milliseconds per stage; for a frame decided in a batch, its equal share of the batch (`preprocess` is its own).

    Attributes:
        preprocess: prompt to ids and images to pixel values, wherever that was done.
        vision: pixel values to the device, vision tower (and the vision scores it gives pruning).
        adapter: projector and adapter.
        prefill: the prompt through the decoder, pruning included, up to the first token of the answer.
        readout: the rest of the answer.
    """

    preprocess: float = 0.0
    vision: float = 0.0
    adapter: float = 0.0
    prefill: float = 0.0
    readout: float = 0.0

    @property
    def total(self) -> float:
        return sum(asdict(self).values())


class Stopwatch:
    """Times consecutive stages; on an accelerator by its events, so that the host does not wait for them.

    Args:
        device: where the stages run.
        shares: frames that go through them together: each is given its equal share.
    """

    def __init__(self, device: torch.device, shares: int = 1) -> None:
        self.device, self.shares = device, shares
        self.names: list[str] = []
        self.marks = [self._mark()]

    def lap(self, stage: str) -> None:
        """End a stage: the time since the last lap is its own."""
        self.names.append(stage)
        self.marks.append(self._mark())

    @property
    def stages(self) -> dict[str, float]:
        """Milliseconds by stage; waits for the end of the last one."""
        if self.device.type != "cpu":
            self.marks[-1].synchronize()
        times = [
            1e3 * (end - begin) if self.device.type == "cpu" else begin.elapsed_time(end)
            for begin, end in pairwise(self.marks)
        ]
        return {name: spent / self.shares for name, spent in zip(self.names, times, strict=True)}

    def _mark(self) -> Any:
        if self.device.type == "cpu":
            return time.perf_counter()
        module: Any = torch.get_device_module(self.device)
        event = module.Event(enable_timing=True)
        event.record(module.current_stream(self.device))
        return event
