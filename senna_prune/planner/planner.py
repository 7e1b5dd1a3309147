"""`Planner`: six camera images, ego speed and a navigation command in, a meta-action out."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

import torch
from torch import Tensor

from senna_prune.engine import prune
from senna_prune.engine.readout import AnswerTrie, score_answers
from senna_prune.errors import InputError
from senna_prune.hosts.senna import adapter_paths, senna_evidence
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.processing import SennaProcessor
from senna_prune.model.token_layout import TokenLayout
from senna_prune.model.vision import SennaImageFeatures
from senna_prune.pictures import Picture
from senna_prune.planner.inputs import checked_question, views_in_order
from senna_prune.planner.plan import EncodedFrame, Frame, LoadedFrame, Plan
from senna_prune.planner.timing import FirstTokenStreamer, Stopwatch, Timing
from senna_prune.pruning import Budget, Pruner, make_pruner
from senna_prune.pruning.interface import VISION
from senna_prune.task.answers import parse_answer
from senna_prune.task.labels import PLANS, CameraOrder, Command, Convention, Path, Readout, Speed, plan_text
from senna_prune.task.prompts import System, planning_prompt


class Planner:
    """Decides frames with one model.

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
        max_new_tokens: longest generated answer.

    Raises:
        InputError: unknown readout or system sentence.
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
    ) -> None:
        if readout not in get_args(Readout):
            raise InputError(f"unknown readout {readout!r}", hint="use one of: " + ", ".join(get_args(Readout)))
        self.model = model
        self.processor = processor
        self.pruner = pruner_for(model, "none") if pruner is None else pruner
        self.readout = readout
        self.cameras = Convention(cameras=convention).camera_order
        self.system = system
        self.max_new_tokens = max_new_tokens
        self.answers = plan_trie(processor, system)
        self.paths = adapter_paths(model)

    def plan(self, images: Mapping[str, Picture], speed: float, command: Command | str) -> Plan:
        """Decide one frame.

        Args:
            images: a picture per nuScenes camera channel (`CAMERAS`): PIL image, uint8 array (H, W, 3) or path.
            speed: ego speed, m/s, >= 0.
            command: navigation command.

        Raises:
            InputError: wrong cameras, something that is no picture, a bad speed or command.
            ImageError: an unusable picture; the message names the camera or the file.
        """
        return self.plan_batch([Frame(images, speed, command)])[0]

    def plan_batch(self, frames: Sequence[Frame]) -> list[Plan]:
        """Decide several frames in one pass through the decoder; raises as `plan` does."""
        evidence = VISION in self.pruner.needs
        checked = [
            (views_in_order(frame.images, self.cameras), checked_question(frame.speed, frame.command))
            for frame in frames
        ]
        return self.decide_batch(self.encode_batch(checked, evidence, self.cameras), self.pruner)

    def encode(
        self, views: Sequence[Picture], question: str, evidence: bool = True, names: Sequence[str] | None = None
    ) -> EncodedFrame:
        """Everything before the decoder.

        Args:
            views: pictures in the order of the prompt's labels.
            question: user turn with one `<image>` marker per view.
            evidence: also compute what vision-guided pruners need.
            names: what an error calls each picture that has no path.

        Raises:
            InputError, ImageError: as `SennaProcessor` does.
        """
        return self.encode_batch([(views, question)], evidence, names)[0]

    def encode_batch(
        self,
        frames: Sequence[tuple[Sequence[Picture], str]],
        evidence: bool = True,
        names: Sequence[str] | None = None,
    ) -> list[EncodedFrame]:
        """`encode` for several frames, each the pictures and the question, with one pass through the vision tower."""
        return self.see([self.load(views, question, names) for views, question in frames], evidence)

    def load(self, views: Sequence[Picture], question: str, names: Sequence[str] | None = None) -> LoadedFrame:
        """The part of `encode` that needs no model, and may run in another thread while the model decides.

        Raises:
            InputError, ImageError: as `encode` does.
        """
        began = time.perf_counter()
        device = self.model.device
        ids = self.processor.encode_prompt(planning_prompt(question, self.system))
        # In the model's dtype already: what is converted on its way to the device leaves pinned memory first.
        pixels = self.processor.encode_views(views, names).to(self.model.dtype)
        if device.type == "cuda":
            # A thread begins on the first device, and pinning would open a context there.
            with torch.cuda.device(device):
                pixels = pixels.pin_memory()
        return LoadedFrame(ids, pixels, 1e3 * (time.perf_counter() - began))

    @torch.inference_mode()
    def see(self, frames: Sequence[LoadedFrame], evidence: bool = True) -> list[EncodedFrame]:
        """The rest of `encode`: loaded frames through the vision tower and the adapter, in one pass."""
        if not frames:
            return []
        inner, device = self.model.model, self.model.device
        stopwatch = Stopwatch(device)
        pixels = torch.cat([frame.pixel_values.to(device, non_blocking=True) for frame in frames])
        patches, cls_attention, keys = inner.get_vision_features(pixels, evidence)
        stopwatch.lap("vision")
        tokens = inner.adapt(patches)
        stopwatch.lap("adapter")
        shared = {stage: spent / len(frames) for stage, spent in stopwatch.stages.items()}

        def by_frame(values: Tensor | None) -> Sequence[Tensor | None]:
            return [None] * len(frames) if values is None else values.unflatten(0, (len(frames), 1, -1)).unbind()

        parts = zip(frames, by_frame(tokens), by_frame(cls_attention), by_frame(keys), strict=True)
        return [
            EncodedFrame(
                frame.input_ids,
                SennaImageFeatures(tokens=cast(Tensor, visual), cls_attention=scores, patch_keys=frame_keys),
                {"preprocess": frame.milliseconds, **shared},
            )
            for frame, visual, scores, frame_keys in parts
        ]

    def decide(self, encoded: EncodedFrame, pruner: Pruner | None = None) -> Plan:
        """Decide an encoded frame under any pruner; None is the planner's own."""
        return self.decide_batch([encoded], pruner)[0]

    @torch.inference_mode()
    def decide_batch(self, encoded: Sequence[EncodedFrame], pruner: Pruner | None = None) -> list[Plan]:
        """Decide encoded frames in one pass through the decoder; see `decide`."""
        if not encoded:
            return []
        pruner = self.pruner if pruner is None else pruner
        stopwatch = Stopwatch(self.model.device)
        input_ids, attention_mask = self.processor.pad([frame.input_ids for frame in encoded], "left")
        inputs = {
            "input_ids": input_ids.to(self.model.device),
            "attention_mask": attention_mask.to(self.model.device),
            "image_features": torch.cat([frame.features.tokens for frame in encoded]),
        }
        vision = None
        if VISION in pruner.needs:
            if any(frame.features.cls_attention is None for frame in encoded):
                raise InputError("this pruner needs evidence of the vision tower", hint="encode with evidence=True")
            vision = [senna_evidence(frame.features, self.paths)[0] for frame in encoded]
        layouts = [self._layout(frame.input_ids) for frame in encoded]
        with prune(self.model, pruner, layouts=layouts, vision=vision) as trace:
            read = self._generate if self.readout == "generate" else self._score
            texts, distributions, positions = read(inputs, stopwatch)
        plans = []
        for number, (text, frame) in enumerate(zip(texts, encoded, strict=True)):
            answer = parse_answer(text)
            shared = {stage: spent / len(encoded) for stage, spent in stopwatch.stages.items()}
            distribution = distributions[number] if distributions is not None else None
            timing = Timing(**frame.stages, **shared)
            plans.append(
                Plan(answer.speed, answer.path, text, distribution, trace.samples[number], timing, positions[number])
            )
        return plans

    def _layout(self, input_ids: Tensor) -> TokenLayout:
        config = self.model.config
        return TokenLayout.from_ids(input_ids, config.image_token_id, config.num_view_tokens)

    def _generate(self, inputs: dict[str, Tensor], stopwatch: Stopwatch) -> _Reading:
        width, model = inputs["input_ids"].shape[1], cast(Any, self.model)
        ids = model.generate(
            **inputs,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            streamer=FirstTokenStreamer(stopwatch),
        )[:, width:]
        stopwatch.lap("readout")
        answers = [self._answer(row) for row in ids.tolist()]
        texts = self.processor.tokenizer.batch_decode(answers, skip_special_tokens=True)
        # The last token is read off, not read in.
        return [text.strip() for text in texts], None, [len(answer) - 1 for answer in answers]

    def _answer(self, ids: list[int]) -> list[int]:
        """A generated row up to its end: a batch goes on, padded, until its longest answer has ended."""
        ends = self.model.generation_config.eos_token_id
        known = ends if isinstance(ends, list) else [ends]
        return ids[: next((place for place, token in enumerate(ids, start=1) if token in known), None)]

    def _score(self, inputs: dict[str, Tensor], stopwatch: Stopwatch) -> _Reading:
        if len(inputs["input_ids"]) == 1:
            # Nothing is padded: without a mask to look at, the host need not wait for the device.
            inputs = {name: value for name, value in inputs.items() if name != "attention_mask"}
        else:
            inputs["position_ids"] = (inputs["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
        output = self.model(**inputs, use_cache=True, logits_to_keep=1)
        stopwatch.lap("prefill")
        answers = self.answers.to(self.model.device)
        scores = score_answers(self.model, output.past_key_values, output.logits[:, -1], answers)
        chosen = scores.greedy() if self.readout == "constrained" else scores.most_probable()
        rows = scores.distribution.tolist()
        if not all(math.isfinite(value) for row in rows for value in row):
            raise InputError("the model's output is not finite", hint="load it in bfloat16 or float32")
        distributions = [dict(zip(PLANS, row, strict=True)) for row in rows]
        stopwatch.lap("readout")
        return [plan_text(*PLANS[number]) for number in chosen], distributions, [len(self.answers.nodes)] * len(chosen)


_Reading = tuple[list[str], list[dict[tuple[Speed, Path], float]] | None, list[int]]
"""Answer texts, distributions if any, and tokens read in after the prompt, per frame."""


def pruner_for(
    model: SennaForConditionalGeneration, method: str, budget: Budget | None = None, **options: Any
) -> Pruner:
    """A pruning method built for this model.

    Args:
        model: the model it will prune.
        method: a registered method; "none" leaves every bit of the model's output as it is.
        budget: what the method may spend; None is all visual tokens.
        options: of the method.

    Raises:
        PruningError: unknown method or option, or a budget out of reach.
    """
    config = model.config
    return make_pruner(
        method,
        Budget.retention(1.0) if budget is None else budget,
        num_layers=config.text_config.num_hidden_layers,
        num_heads=config.text_config.num_attention_heads,
        num_visual=config.num_views * config.num_view_tokens,
        **options,
    )


def plan_trie(processor: SennaProcessor, system: System = "llava_v1") -> AnswerTrie:
    """The 20 plans as they are tokenised behind a prompt."""
    prompt = planning_prompt("", system)
    head = processor.tokenizer(prompt, add_special_tokens=False).input_ids
    answers = []
    for plan in PLANS:
        ids = processor.tokenizer(f"{prompt} {plan_text(*plan)}", add_special_tokens=False).input_ids
        assert ids[: len(head)] == head, "an answer must not change the tokens of its prompt"
        answers.append(ids[len(head) :])
    return AnswerTrie.build(answers)
