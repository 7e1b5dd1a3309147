"""Everything before the decoder: images and a question become visual tokens and the ids of a prompt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import product
from typing import TypeVar

import torch
from torch import Tensor

from senna_prune.devices import device_of
from senna_prune.engine.captured import CapturedDecoder, require_compilable
from senna_prune.errors import require
from senna_prune.hosts.senna import adapter_paths
from senna_prune.image_files import AnyImage
from senna_prune.model.images import Preprocess
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.processing import SennaProcessor
from senna_prune.planner.inputs import require_dtype
from senna_prune.planner.plan import EncodedFrame, PreprocessedFrame, TowerPass
from senna_prune.planner.timing import Stopwatch
from senna_prune.task.labels import Command, view_label
from senna_prune.task.prompts import System, planning_prompt, planning_question

R = TypeVar("R")


class FrameEncoder:
    """The part of a `Planner` that needs no pruner.

    Attributes:
        model, processor, system: see `Planner`. labels: of the views, in the prompt.
        device: where the vision tower takes images. text_device: where the decoder takes ids.
        resize_on: where images are resized; None is the host, exactly as the released model does.
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
        self.text_device = device_of(model.get_input_embeddings(), self.device)
        self.processor = processor
        self.labels = tuple(map(view_label, model.config.camera_names))
        self.system = system
        self.resize_on = self.device if preprocess == "device" else None
        self.captured = CapturedDecoder() if compiled else None
        self.model_in_use = threading.Lock()

    @cached_property
    def paths(self) -> Tensor:
        """See `adapter_paths`."""
        return adapter_paths(self.model)

    @cached_property
    def prompts(self) -> dict[int, str]:
        """A question for each length that planning prompts have, by text tokens: all commands, 0 to 39 m/s."""
        found, visual = dict[int, str](), self.model.config.num_views * self.model.config.num_view_tokens
        for speed, command in product(range(40), Command):
            question = planning_question(speed, command.value, self.labels)
            ids = self.processor.encode_prompt(planning_prompt(question, self.system))
            found.setdefault(len(ids) - visual, question)
        return found

    def encode(self, views: Sequence[AnyImage], question: str, names: Sequence[str] | None = None) -> EncodedFrame:
        """Everything before the decoder.

        Args:
            views: images in the order of the prompt's labels.
            question: user turn with one `<image>` marker per view.
            names: what an error calls each image that has no path.

        Raises:
            InputError, ImageError: as `SennaProcessor` does.
        """
        return self.encode_images([self.preprocess(views, question, names)])[0]

    def preprocess(
        self, views: Sequence[AnyImage], question: str, names: Sequence[str] | None = None
    ) -> PreprocessedFrame:
        """The part of `encode` that needs no model: it may run in another thread while the model decides.

        Raises:
            InputError, ImageError: as `encode` does.
        """
        require(isinstance(question, str), "question", question, "a question")
        began = time.perf_counter()
        ids = self.processor.encode_prompt(planning_prompt(question, self.system))
        # In the model's dtype already: what is converted on its way to the device leaves pinned memory first.
        pixels = self.processor.encode_views(views, names, self.resize_on).to(self.model.dtype)
        if self.device.type == "cuda" and self.resize_on is None:
            # In a new thread the current device is the first one, and pinning would occupy memory there.
            with torch.cuda.device(self.device):
                pixels = pixels.pin_memory()
        return PreprocessedFrame(ids, pixels, 1e3 * (time.perf_counter() - began))

    @torch.inference_mode()
    def encode_images(self, frames: Sequence[PreprocessedFrame]) -> list[EncodedFrame]:
        """The rest of `encode`: frames through the vision tower and the adapter, in one pass."""
        if not frames:
            return []
        require_dtype(self.model.dtype, self.device)
        inner = self.model.model
        with self.model_in_use:
            stopwatch = Stopwatch(self.device, len(frames))
            pixels = torch.cat([frame.pixel_values.to(self.device, non_blocking=True) for frame in frames])
            entering, hidden = self._run(inner.run_tower, pixels, len(frames), "the vision tower")
            stopwatch.lap("vision")
            adapted = self._run(inner.adapt, hidden[:, 1:], len(frames), "the adapter")
            stopwatch.lap("adapter")
        tower = TowerPass(self, stopwatch, entering)
        return [
            EncodedFrame(frame.input_ids, tokens, frame.milliseconds, tower, number)
            for number, (frame, tokens) in enumerate(
                zip(frames, adapted.unflatten(0, (len(frames), 1, -1)), strict=True)
            )
        ]

    def _run(self, part: Callable[[Tensor], R], states: Tensor, frames: int, name: str) -> R:
        """A part of the model: by its graph for a single frame under SDPA, if graphs are asked for; else eagerly."""
        attention = self.model.model.vision_tower.config._attn_implementation
        if self.captured is None or frames > 1 or attention != "sdpa":
            return part(states)
        return self.captured.call(part, states, name)
