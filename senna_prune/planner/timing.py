"""Wall-clock times of the stages of one decision."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers.generation.streamers import BaseStreamer


@dataclass(frozen=True)
class Timing:
    """Milliseconds per stage; for a frame decided in a batch, its equal share of the batch (`preprocess` is its own).

    Attributes:
        preprocess: prompt to ids and pictures to pixel values, wherever that was done.
        vision: pixel values to the device, vision tower (and the evidence it gives pruning).
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
    """Times consecutive stages on a device that may run behind the host."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stages: dict[str, float] = {}
        self.last = self._now()

    def lap(self, stage: str) -> None:
        """End a stage: the time since the last lap is its own."""
        now = self._now()
        self.stages[stage] = 1e3 * (now - self.last)
        self.last = now

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class FirstTokenStreamer(BaseStreamer):
    """Ends the stage `prefill` of a stopwatch when `generate` hands out its first token."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self.stopwatch = stopwatch
        self.calls = 0

    def put(self, value: Any) -> None:
        # The first call shows the prompt itself.
        self.calls += 1
        if self.calls == 2:
            self.stopwatch.lap("prefill")

    def end(self) -> None:
        """Nothing is buffered."""
