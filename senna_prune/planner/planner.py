"""`Planner`: six camera images, ego speed and a navigation command in, a meta-action out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from PIL import Image
from torch import Tensor

from senna_prune.devices import constant, moved
from senna_prune.engine import prune
from senna_prune.engine.captured import CapturedDecoder
from senna_prune.errors import InputError, one_of, require
from senna_prune.hosts.host import unwrapped
from senna_prune.image_files import AnyImage
from senna_prune.model.checkpoint import load_senna
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.processing import Preprocess, SennaProcessor
from senna_prune.model.token_layout import TokenLayout, require_placeholders
from senna_prune.planner.encode import EncodedFrame, FrameEncoder, Stopwatch
from senna_prune.planner.plan import (
    Frame,
    Plan,
    Reply,
    Timing,
    VisualTokens,
    cameras_of,
    checked_question,
    pruner_for,
    views_in_order,
)
from senna_prune.planner.readouts import Fields, cut_before_decoder, generate_texts, plan_trie, score_plans
from senna_prune.planner.readouts import Readout as Answers
from senna_prune.pruning import Budget, Pruner
from senna_prune.pruning.base import VISION
from senna_prune.task.labels import CameraOrder, Command, Readout
from senna_prune.task.prompts import System, image_prompt

Read = Callable[[Mapping[str, Any], Stopwatch], Answers]


class Planner(FrameEncoder):
    """Decides frames with one model.

    May be called from several threads: images are read side by side, and one batch at a time runs through the model.

    Args:
        model: Senna, in evaluation mode.
        processor: the processor that belongs to it.
        pruner: how visual tokens are pruned; None keeps all.
        readout: "generate" decodes greedily, as published; "constrained" decodes greedily among the 20 plans;
            "one_pass" takes the most probable of them. The latter two need one pass beyond the prompt and give a
            distribution.
        convention: which image stands under which label of the prompt. "corrected" puts each under its own; "upstream"
            repeats the released converter, for a model trained on its output.
        system: system sentence of the prompt.
        max_new_tokens: longest generated answer, 1 or more.
        compiled: see `prune`; graphs run single frames: tower, adapter, prompt, and the second pass of the readouts
            "one_pass" and "constrained".
        preprocess: "exact" resizes images as the released model does, "device" on the model's device, by nearly the
            same filter (`model.processing.pixel_values_on`).

    Raises:
        InputError: an argument of the wrong type, an unknown readout or system sentence, a model without weights.
        SampleError: unknown convention.
    """

    def __init__(
        self,
        model: SennaForConditionalGeneration,
        processor: SennaProcessor,
        pruner: Pruner | None = None,
        readout: Readout = "one_pass",
        convention: CameraOrder = "corrected",
        system: System = "llava_v1",
        max_new_tokens: int = 32,
        compiled: bool = False,
        preprocess: Preprocess = "exact",
    ) -> None:
        model = unwrapped(model)
        require(isinstance(model, SennaForConditionalGeneration), "model", model, "a SennaForConditionalGeneration")
        require(isinstance(processor, SennaProcessor), "processor", processor, "a SennaProcessor")
        one_of(readout, get_args(Readout), "readout", "readout", InputError)
        require(isinstance(system, str), "system", system, "the name of a system sentence")
        whole = isinstance(max_new_tokens, int) and not isinstance(max_new_tokens, bool) and max_new_tokens >= 1
        require(whole, "max_new_tokens", max_new_tokens, "a number of tokens, 1 or more")
        require(preprocess in get_args(Preprocess), "preprocess", preprocess, "'exact' or 'device'")
        super().__init__(model, processor, system, preprocess, compiled)
        self.pruner = pruner_for(model, "none") if pruner is None else _as_pruner(pruner)
        self.readout, self.max_new_tokens = readout, max_new_tokens
        self.cameras = cameras_of(model.config.camera_names, convention)
        self.answers = plan_trie(processor, system)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        method: str = "none",
        budget: Budget | None = None,
        options: Mapping[str, Any] | None = None,
        readout: Readout = "one_pass",
        convention: CameraOrder = "corrected",
        compiled: bool = False,
        preprocess: Preprocess = "exact",
        **loading: Any,
    ) -> Planner:
        """A planner from a checkpoint: `load_senna`, `pruner_for` and `Planner` in one call.

        Args:
            source: checkpoint folder, in our format or as released, or a hub id.
            method, budget, options: see `pruner_for`.
            readout, convention, compiled, preprocess: see `Planner`.
            loading: arguments of `load_senna`, such as `device="cuda:0"` and `dtype="bfloat16"`.

        Raises:
            CheckpointError, InputError, PruningError: as these three do.
        """
        model, processor = load_senna(source, **loading)
        pruner = pruner_for(model, method, budget, **(options or {}))
        return cls(model, processor, pruner, readout, convention, compiled=compiled, preprocess=preprocess)

    def warm_up(self) -> int:
        """Decide a black frame in prompts of all lengths and, where compiled, under every schedule of the planner's
        pruner, so that no later frame has to compile or to allocate. Call it before other threads plan.

        Returns:
            The graphs that are then kept: 2 and, for each length of a prompt, 2 or, where complexity is measured, 1 + 2
            for each of the pruner's schedules; 64 at most.
        """
        captured, views = self.captured, [Image.new("RGB", (64, 64))] * len(self.labels)
        for encoded in (self.encode(views, question) for question in self.prompts.values()):
            if captured is None:
                self.decide(encoded)
                continue
            try:
                for complexity in self._expected(captured, self.pruner):
                    captured.assumed = complexity
                    self.decide(encoded)
            finally:
                captured.assumed = None
        return 0 if captured is None else len(captured.graphs)

    def _expected(self, captured: CapturedDecoder, pruner: Pruner) -> list[float | None]:
        shape = self.num_visual, self.model.config.text_config.num_hidden_layers
        return captured.expect(pruner, *shape, list(self.prompts))

    def plan(self, images: Mapping[str, AnyImage], speed: float, command: Command | str) -> Plan:
        """Decide one frame.

        Args:
            images: an image per camera (nuScenes' `CAMERAS`, or those that the checkpoint's configuration names): PIL
                image, uint8 array (H, W, 3) in RGB order or path.
            speed: ego speed, m/s, >= 0.
            command: navigation command.

        Raises:
            InputError: wrong cameras, something that is no image, a bad speed or command; or the model's output is
                not finite, which gives no plan.
            ImageError: an unusable image; the message names the camera or the file.
        """
        return self.plan_batch([Frame(images, speed, command)])[0]

    def plan_batch(self, frames: Sequence[Frame]) -> list[Plan]:
        """Decide several frames in one pass through the decoder; raises as `plan` does."""
        for frame in frames:
            require(isinstance(frame, Frame), "frames", frame, "a Frame")
        views = [views_in_order(frame.images, self.cameras) for frame in frames]
        questions = [checked_question(frame.speed, frame.command, self.labels) for frame in frames]
        ready = [self.preprocess(*frame, self.cameras) for frame in zip(views, questions, strict=True)]
        return self.decide_batch(self.encode_images(ready))

    def ask(self, images: Mapping[str, AnyImage], question: str, max_new_tokens: int = 512) -> Reply:
        """Ask anything else about one frame; the answer is generated text.

        Args:
            images: as for `plan`.
            question: what stands behind the labelled images, e.g. a road-user question of a planning set.
            max_new_tokens: longest answer.

        Raises:
            InputError, ImageError: as `plan` does.
        """
        require(isinstance(question, str), "question", question, "a question")
        views = views_in_order(images, self.cameras)
        encoded = self.encode(views, image_prompt(self.labels) + question, self.cameras)
        return self.answer_batch([encoded], max_new_tokens=max_new_tokens)[0]

    def decide(self, encoded: EncodedFrame, pruner: Pruner | None = None) -> Plan:
        """Decide an encoded frame under any pruner; None is the planner's own."""
        return self.decide_batch([encoded], pruner)[0]

    def decide_batch(
        self, encoded: Sequence[EncodedFrame], pruner: Pruner | None = None, compiled: bool = True
    ) -> list[Plan]:
        """Decide encoded frames in one pass through the decoder; see `decide`.

        Args:
            encoded: the frames.
            pruner: None is the planner's own.
            compiled: with the planner's graphs, if it has any. False for a pruner that does not come again: each takes
                graphs of its own.

        Raises:
            InputError: the model's output is not finite.
            PruningError: the pruner does not fit the model.
        """
        read: Read = partial(score_plans, self.model, self.answers, self.readout == "constrained")
        if self.readout == "generate":
            read = partial(generate_texts, self.model, self.processor, self.max_new_tokens, True)
        return [Plan(**fields) for fields in self._read(encoded, pruner, read, self.captured if compiled else None)]

    def answer_batch(
        self, encoded: Sequence[EncodedFrame], pruner: Pruner | None = None, max_new_tokens: int = 512
    ) -> list[Reply]:
        """Answer encoded frames whose questions do not ask for a plan, by greedy decoding of `max_new_tokens` at most;
        as `decide_batch`."""
        read = partial(generate_texts, self.model, self.processor, max_new_tokens, False)
        # Never compiled: such questions are of many lengths.
        return [Reply(**fields) for fields in self._read(encoded, pruner, read, None)]

    @torch.inference_mode()
    def _read(
        self,
        encoded: Sequence[EncodedFrame],
        pruner: Pruner | None,
        read: Read,
        captured: CapturedDecoder | None,
    ) -> list[Fields]:
        """Encoded frames through the decoder in one pass: what `read` makes of each, its trace and its times.

        The host waits for the device twice: for the complexity, if the pruner measures one, and for everything else.
        """
        if not encoded:
            return []
        for frame in encoded:
            require(isinstance(frame, EncodedFrame), "encoded", frame, "an EncodedFrame, which encode gives")
        pruner = self.pruner if pruner is None else _as_pruner(pruner)
        self.require_dtype()
        if captured is not None:
            self._expected(captured, pruner)
        with self.model_in_use:
            scored = VISION in pruner.needs
            vision = [frame.vision_scores for frame in encoded] if scored else None
            stopwatch = Stopwatch(self.text_device, len(encoded))
            rows = [frame.input_ids for frame in encoded]
            layouts, width = [self._layout(row) for row in rows], max(map(len, rows))
            features = torch.cat([frame.tokens for frame in encoded])
            require_placeholders([layout.num_visual for layout in layouts], features.shape[1] * features.shape[2])
            spans = tuple((width - len(row), width) for row in rows)
            bounds = constant(spans, torch.long, self.text_device)
            inputs = {
                "input_ids": moved(self.processor.pad(rows, "left")[0], self.text_device),
                "attention_mask": (torch.arange(width, device=self.text_device) >= bounds[:, :1]).long(),
                "spans": spans,
                "image_features": moved(features, self.text_device),
            }
            given: dict[str, Any] = {"layouts": layouts, "vision": vision, "compiled": captured or False}
            with prune(self.model, pruner, **given, padding_side="left") as trace:
                tensors, answers = read(inputs, stopwatch)
            found = trace.to_host(tensors)
            stopwatch.lap("readout")
        return [
            {**fields, "trace": sample, "timing": Timing(**frame.stages(scored), **stopwatch.stages)}
            for fields, sample, frame in zip(answers(found), trace.samples, encoded, strict=True)
        ]

    def visual_tokens(self, images: Mapping[str, AnyImage], question: str) -> VisualTokens:
        """What is left of a frame's visual tokens, for an engine that takes prompt embeddings.

        Args:
            images: as for `plan`.
            question: user turn with one `<image>` marker per view, e.g. `planning_question(speed, command)`.

        Raises:
            PruningError: the planner's method cuts inside the decoder.
            InputError, ImageError: as `plan` does.
        """
        frame = self.encode(views_in_order(images, self.cameras), question, self.cameras)
        with self.model_in_use, torch.no_grad():
            vision = frame.vision_scores if VISION in self.pruner.needs else None
            embeds = self.model.model.embed(frame.input_ids[None].to(self.text_device), frame.tokens)[0]
            layout = self._layout(frame.input_ids)
            return cut_before_decoder(self.model, self.pruner, embeds, layout, vision, self.cameras)

    def _layout(self, input_ids: Tensor) -> TokenLayout:
        config = self.model.config
        return TokenLayout.from_ids(input_ids, config.image_token_id, config.num_view_tokens)


def _as_pruner(pruner: Any) -> Any:
    """Itself, if it is a `Pruner` or acts as one."""
    acts = hasattr(pruner, "select") and hasattr(pruner, "needs")
    require(acts, "pruner", pruner, "a Pruner, which pruner_for builds")
    return pruner
