"""Everything before the decoder: images and a question become visual tokens and the ids of a prompt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import Any, TypeVar

import torch
from torch import Tensor

from senna_prune.devices import device_of
from senna_prune.engine.captured import CapturedDecoder, require_compilable
from senna_prune.errors import InputError, require
from senna_prune.hosts.senna import SennaHost
from senna_prune.image_files import AnyImage
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.processing import Preprocess, SennaProcessor
from senna_prune.pruning.base import VisionScores
from senna_prune.task.labels import Command, view_label
from senna_prune.task.prompts import System, planning_prompt, planning_question

R = TypeVar("R")


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
        if self.device.type == "cpu":
            times = [1e3 * (end - begin) for begin, end in pairwise(self.marks)]
        else:
            self.marks[-1].synchronize()
            times = [begin.elapsed_time(end) for begin, end in pairwise(self.marks)]
        return {name: spent / self.shares for name, spent in zip(self.names, times, strict=True)}

    def _mark(self) -> Any:
        if self.device.type == "cpu":
            return time.perf_counter()
        module: Any = torch.get_device_module(self.device)
        event = module.Event(enable_timing=True)
        event.record(module.current_stream(self.device))
        return event


@dataclass(frozen=True)
class PreprocessedFrame:
    """A frame before any model: what can be made ready in another thread while the model is at work.

    Attributes:
        input_ids: shape (S,), with placeholders.
        pixel_values: shape (views, 3, H, W), in the model's dtype; in pinned memory for a CUDA model.
        milliseconds: it took to make.
    """

    input_ids: Tensor
    pixel_values: Tensor
    milliseconds: float


@dataclass
class TowerPass:
    """Frames that went through the vision tower together.

    Attributes:
        encoder: what took them there.
        stopwatch: of its stages.
        entering: hidden states that entered the last layer that ran, (frames * views, 1 + patches, width); dropped
            once scores are computed.
    """

    encoder: FrameEncoder
    stopwatch: Stopwatch
    entering: Any

    @cached_property
    def vision_scores(self) -> tuple[list[VisionScores], Stopwatch]:
        """Of each frame, and what they took. Computed when the first pruner asks for them: most methods do not.

        Raises:
            InputError: the tower has no layer to read them from.
        """
        frames = self.stopwatch.shares
        watch = Stopwatch(self.entering.device, frames)
        attention, keys = self.encoder.model.model.vision_scores(self.entering)
        own = zip(attention.unflatten(0, (frames, 1, -1)), keys.unflatten(0, (frames, 1, -1)), strict=True)
        scores = [self.encoder.host.vision_scores(*frame)[0] for frame in own]
        self.entering = None
        watch.lap("vision")
        return scores, watch


@dataclass(frozen=True)
class EncodedFrame:
    """A frame up to the decoder: what any number of pruners can decide on.

    Attributes:
        input_ids: shape (S,), with placeholders, on the host.
        tokens: visual tokens, (1, views, tokens, D).
        preprocess: milliseconds before the model.
        tower: where it was encoded.
        number: which of the frames encoded there it is.
    """

    input_ids: Tensor
    tokens: Tensor
    preprocess: float
    tower: TowerPass
    number: int

    @property
    def vision_scores(self) -> VisionScores:
        """See `TowerPass`."""
        return self.tower.vision_scores[0][self.number]

    def stages(self, scored: bool = False) -> dict[str, float]:
        """Milliseconds of the stages that made it; with the vision scores if a decision used them."""
        stages = {"preprocess": self.preprocess, **self.tower.stopwatch.stages}
        if scored:
            stages["vision"] += self.tower.vision_scores[1].stages["vision"]
        return stages


class FrameEncoder:
    """The part of a `Planner` that needs no pruner.

    Attributes:
        model, processor, system: see `Planner`. labels: of the views, in the prompt.
        host: reads the model. num_visual: visual tokens of a frame.
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
        self.model, self.processor, self.system, self.host = model, processor, system, SennaHost(model)
        self.device = device_of(model)
        self.text_device = device_of(model.get_input_embeddings(), self.device)
        self.labels = tuple(map(view_label, model.config.camera_names))
        self.num_visual = self.host.full_size
        self.resize_on = self.device if preprocess == "device" else None
        self.captured = CapturedDecoder() if compiled else None
        self.model_in_use = threading.Lock()

    @cached_property
    def prompts(self) -> dict[int, str]:
        """A question for each length that planning prompts have, by text tokens: all commands, 0 to 39 m/s."""
        found = dict[int, str]()
        for speed, command in product(range(40), Command):
            question = planning_question(speed, command.value, self.labels)
            ids = self.processor.encode_prompt(planning_prompt(question, self.system))
            found.setdefault(len(ids) - self.num_visual, question)
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
        self.require_dtype()
        inner, count = self.model.model, len(frames)
        with self.model_in_use:
            stopwatch = Stopwatch(self.device, count)
            pixels = torch.cat([frame.pixel_values.to(self.device, non_blocking=True) for frame in frames])
            entering, hidden = self._run(inner.run_tower, pixels, count, "the vision tower")
            stopwatch.lap("vision")
            adapted = self._run(inner.adapt, hidden[:, 1:], count, "the adapter")
            stopwatch.lap("adapter")
        tower, tokens = TowerPass(self, stopwatch, entering), adapted.unflatten(0, (count, 1, -1))
        return [
            EncodedFrame(frame.input_ids, tokens[number], frame.milliseconds, tower, number)
            for number, frame in enumerate(frames)
        ]

    def require_dtype(self) -> None:
        """Refuse to run a model in half precision under an autocast to another type, which torch cannot mix.

        Raises:
            InputError: it would.
        """
        kind, dtype = self.device.type, self.model.dtype
        if torch.is_autocast_enabled(kind) and dtype not in (torch.float32, torch.get_autocast_dtype(kind)):
            problem = f"autocast to {torch.get_autocast_dtype(kind)} of a model in {dtype}"
            raise InputError(problem, hint="leave the autocast context")

    def _run(self, part: Callable[[Tensor], R], states: Tensor, frames: int, name: str) -> R:
        """A part of the model: by its graph for a single frame under SDPA, if graphs are asked for; else eagerly."""
        attention = self.model.model.vision_tower.config._attn_implementation
        if self.captured is None or frames > 1 or attention != "sdpa":
            return part(states)
        return self.captured.call(part, states, name)
