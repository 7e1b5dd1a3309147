"""Everything before the decoder: pictures and a question become visual tokens and the ids of a prompt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from senna_prune.engine.captured import CapturedDecoder, require_compilable
from senna_prune.hosts.senna import adapter_paths
from senna_prune.model.images import Preprocess
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.processing import SennaProcessor
from senna_prune.model.vision import SennaImageFeatures
from senna_prune.pictures import Picture
from senna_prune.planner.evidence import Evidence
from senna_prune.planner.inputs import device_of, require, require_dtype
from senna_prune.planner.plan import EncodedFrame, LoadedFrame
from senna_prune.planner.timing import Stopwatch
from senna_prune.task.prompts import System, planning_prompt

R = TypeVar("R")


class FrameEncoder:
    """The part of a `Planner` that needs no pruner.

    Attributes:
        model, processor, system, preprocess: see `Planner`.
        device: where the inputs go.
        captured: compiled passes of single frames, or None.
        model_in_use: held while a batch runs through the model.
    """

    def __init__(
        self,
        model: SennaForConditionalGeneration,
        processor: SennaProcessor,
        system: System,
        preprocess: Preprocess = "exact",
        compiled: bool = False,
    ) -> None:
        if compiled:
            require_compilable(model)
        self.model = model
        self.device = device_of(model)
        self.processor = processor
        self.system = system
        self.preprocess = preprocess
        self.captured = CapturedDecoder() if compiled else None
        self.model_in_use = threading.Lock()

    @cached_property
    def paths(self) -> Tensor:
        """See `adapter_paths`."""
        return adapter_paths(self.model)

    def encode(self, views: Sequence[Picture], question: str, names: Sequence[str] | None = None) -> EncodedFrame:
        """Everything before the decoder.

        Args:
            views: pictures in the order of the prompt's labels.
            question: user turn with one `<image>` marker per view.
            names: what an error calls each picture that has no path.

        Raises:
            InputError, ImageError: as `SennaProcessor` does.
        """
        return self.see([self.load(views, question, names)])[0]

    def load(self, views: Sequence[Picture], question: str, names: Sequence[str] | None = None) -> LoadedFrame:
        """The part of `encode` that needs no model: it may run in another thread while the model decides.

        Raises:
            InputError, ImageError: as `encode` does.
        """
        require(isinstance(question, str), "question", question, "a question")
        began = time.perf_counter()
        ids = self.processor.encode_prompt(planning_prompt(question, self.system))
        # In the model's dtype already: what is converted on its way to the device leaves pinned memory first.
        where = self.device if self.preprocess == "device" else None
        pixels = self.processor.encode_views(views, names, where).to(self.model.dtype)
        if self.device.type == "cuda" and where is None:
            # In a new thread the current device is the first one, and pinning would occupy memory there.
            with torch.cuda.device(self.device):
                pixels = pixels.pin_memory()
        return LoadedFrame(ids, pixels, 1e3 * (time.perf_counter() - began))

    @torch.inference_mode()
    def see(self, frames: Sequence[LoadedFrame]) -> list[EncodedFrame]:
        """The rest of `encode`: loaded frames through the vision tower and the adapter, in one pass."""
        if not frames:
            return []
        require_dtype(self.model.dtype, self.device)
        inner = self.model.model
        with self.model_in_use:
            stopwatch = Stopwatch(self.device)
            pixels = torch.cat([frame.pixel_values.to(self.device, non_blocking=True) for frame in frames])
            entering, hidden = self._run(inner.run_tower, pixels, len(frames), "the vision tower")
            stopwatch.lap("vision")
            adapted = self._run(inner.adapt, hidden[:, 1:], len(frames), "the adapter")
            tokens = adapted.unflatten(0, (len(frames), 1, -1))
            stopwatch.lap("adapter")
        evidence = Evidence(self.model, entering, len(frames), lambda: self.paths)
        shared = {stage: spent / len(frames) for stage, spent in stopwatch.stages.items()}
        features_of = [SennaImageFeatures(tokens=own) for own in tokens]
        return [
            EncodedFrame(frame.input_ids, features, {"preprocess": frame.milliseconds, **shared}, evidence, number)
            for number, (frame, features) in enumerate(zip(frames, features_of, strict=True))
        ]

    def _run(self, part: Callable[[Tensor], R], states: Tensor, frames: int, name: str) -> R:
        """A part of the model: by its graph for a single frame under SDPA, if graphs are asked for; else eagerly."""
        attention = self.model.model.vision_tower.config._attn_implementation
        if self.captured is None or frames > 1 or attention != "sdpa":
            return part(states)
        return self.captured.call(part, states, name)
