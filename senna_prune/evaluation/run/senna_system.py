"""A Senna checkpoint as an `EvaluatedSystem`: `Planner` decides, this file turns its plans into plain records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from senna_prune.config import EvaluationConfig
from senna_prune.cost import ModelShape
from senna_prune.devices import find_device
from senna_prune.engine.state import SampleTrace
from senna_prune.errors import InputError
from senna_prune.evaluation.audit.adapter_map import entering_adapter, input_paths
from senna_prune.evaluation.audit.seen import SeenObjects
from senna_prune.evaluation.run.controls import control_of, takes_measured
from senna_prune.evaluation.run.reading import picture_paths
from senna_prune.evaluation.run.records import Condition, Decision, Trace, rounded
from senna_prune.evaluation.run.system import Appearance, Identity, ResolvedSchedule, Task
from senna_prune.model.checkpoint import Checkpoint, checkpoint_digest, load_senna, open_checkpoint
from senna_prune.model.configuration import model_shape
from senna_prune.model.processing import Preprocess
from senna_prune.planner.encode import EncodedFrame, PreprocessedFrame
from senna_prune.planner.plan import Plan, Reply
from senna_prune.planner.planner import Planner
from senna_prune.pruning.base import Method
from senna_prune.pruning.budget import Accounting, Budget
from senna_prune.pruning.registry import make_pruner
from senna_prune.task.labels import CAMERAS, PLAN, Readout, view_label
from senna_prune.task.prompts import image_prompt, planning_prompt
from senna_prune.task.sample import PlanningSample

TYPICAL_COMPLEXITY = 0.5
"""Used in place of a measured one, to show a schedule before any sample is seen."""
WHOSE = {
    None: "every sample gets its own",
    "shuffled": "every sample takes another sample's",
    "static": "all samples take their mean",
}

OBJECTS = "nearness"
"""Option of the oracle controls that each sample's annotated objects fill in."""

Encoded = tuple[Task, EncodedFrame]


class SennaSystem:
    """See `EvaluatedSystem`. Opens the checkpoint without its weights; `load` brings them in.

    Raises:
        CheckpointError: the checkpoint cannot be opened.
    """

    def __init__(self, config: EvaluationConfig) -> None:
        self.config = config
        self._planner: Planner | None = None
        self._pruners: dict[str, Method] = {}

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return open_checkpoint(self.config.model.path, self.config.model.vision_tower)

    @cached_property
    def shape(self) -> ModelShape:
        config = self.checkpoint.config
        dtype = config.dtype if self.config.model.dtype == "auto" else getattr(torch, self.config.model.dtype)
        return model_shape(config, dtype if isinstance(dtype, torch.dtype) else torch.float32)

    def identity(self) -> Identity:
        return Identity(self._digest(), self.shape)

    def _digest(self) -> str:
        folders = [self.config.model.path, *filter(None, [self.config.model.vision_tower])]
        digests = [checkpoint_digest(folder) for folder in folders]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()[:16]

    def resolve(self, condition: Condition, sample: PlanningSample) -> ResolvedSchedule:
        pruner = self._pruner(condition)
        with naming(sample):
            self._require_cameras(sample)
            if OBJECTS in condition.resolved:
                require_objects(sample)
            ids = self.checkpoint.processor.encode_prompt(planning_prompt(sample.question))
        given = condition.options.get("assumed")
        assumed = TYPICAL_COMPLEXITY if pruner.measured_layer is not None and given is None else None
        shape, text = self.shape, len(ids) - self.shape.num_visual
        resolution = pruner.resolve(shape.num_visual, shape.layers, given if assumed is None else assumed, text)
        tokens = resolution.plan.tokens
        depends = f"shown for complexity {assumed:g}; {WHOSE[control_of(condition)]}" if assumed is not None else ""
        return ResolvedSchedule(
            entering=tokens[:-1],
            after=tokens[1:],
            text=text,
            parameter=resolution.parameter,
            note="; ".join(part for part in (resolution.note, depends) if part),
        )

    def load(self) -> Appearance:
        model = self.config.model
        device = find_device(model.device, "model.device")
        senna, processor = load_senna(
            model.path, model.dtype, str(device), model.attn_implementation, model.vision_tower, model.packed
        )
        self._planner = Planner(
            senna,
            processor,
            readout=cast(Readout, self.config.readout.mode),
            max_new_tokens=self.config.readout.max_new_tokens,
            compiled=model.compiled,
            preprocess=cast(Preprocess, model.preprocess),
        )
        return self.appearance()

    @property
    def planner(self) -> Planner:
        assert self._planner is not None, "load() comes first"
        return self._planner

    def appearance(self) -> Appearance:
        padded = self.planner.processor.image_aspect_ratio == "pad"
        return Appearance(self.planner.host.paths.tolist(), padded)

    def prepare(self, task: Task, images: Sequence[bytes]) -> tuple[Task, PreprocessedFrame]:
        names = [str(path) for path in picture_paths(task.sample, Path(self.config.data.image_root))]
        with naming(task.sample):
            self._require_cameras(task.sample)
            return task, self.planner.preprocess(images, task.sample.question, names)

    def _require_cameras(self, sample: PlanningSample) -> None:
        """Refuse a sample of other cameras than the checkpoint's, or under other labels: a swap would go unnoticed."""
        names = self.checkpoint.config.camera_names
        if not names:
            hint = "name them in config.json (cameras), in the order of the prompt's labels"
            raise InputError("the checkpoint does not name its cameras, which are not nuScenes' six", hint=hint)
        if names == CAMERAS and sample.images.keys() == set(CAMERAS):
            return
        given, head = tuple(sample.images), image_prompt(tuple(map(view_label, names)))
        if given != names:
            problem = f"the sample's cameras are {', '.join(given)}, the checkpoint's {', '.join(names)}"
            raise InputError(problem, hint="use a checkpoint for these cameras, or name them in its order")
        if not sample.question.startswith(head):
            raise InputError(
                f"the question does not begin with {head.splitlines()[0]!r} and so on",
                hint="see docs/reference/files.md",
            )

    def decide(
        self, prepared: Sequence[tuple[Task, PreprocessedFrame]], conditions: Sequence[Condition]
    ) -> Iterator[list[Decision]]:
        encoded = self.encode(prepared)
        for condition in conditions:
            yield self.decide_encoded(encoded, condition)

    def encode(self, prepared: Sequence[tuple[Task, PreprocessedFrame]]) -> list[Encoded]:
        """What all conditions share."""
        by_inputs = self.config.token_map == "inputs"
        with entering_adapter(self.planner.model, by_inputs) as entering:
            frames = self.planner.encode_images([frame for _, frame in prepared])
        if by_inputs:
            shares = input_paths(self.planner.model.model.img_adapter, entering[0]).unflatten(0, (len(prepared), -1))
            for (task, _), own in zip(prepared, shares.double().cpu().numpy(), strict=True):
                if task.sample.objects is not None:
                    self.seen.seeing(task.sample, own)
        return [(task, frame) for (task, _), frame in zip(prepared, frames, strict=True)]

    def decide_encoded(self, encoded: Sequence[Encoded], condition: Condition) -> list[Decision]:
        """Samples that `encode` returned, under one condition."""
        if condition.seed is None and not takes_measured(condition) and OBJECTS not in condition.resolved:
            return self._decide_together(encoded, self._pruner(condition))
        # Every sample has a seed, a complexity or objects of its own, so each needs its own pruner.
        each = [self._decide_together([one], self._pruner_of(one[0], condition), False) for one in encoded]
        return [decision for (decision,) in each]

    def _decide_together(self, encoded: Sequence[Encoded], pruner: Method, compiled: bool = True) -> list[Decision]:
        device = self.planner.model.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        frames = [frame for _, frame in encoded]
        answers = list[Plan | Reply]()
        if all(task.sample.kind == PLAN for task, _ in encoded):  # those decided together are of one kind
            answers += self.planner.decide_batch(frames, pruner, compiled)
        else:
            answers += self.planner.answer_batch(frames, pruner, self.config.readout.max_text_tokens)
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        return [
            Decision(
                answer=answer.text,
                trace=plain_trace(answer.trace, task.depths),
                readout_positions=answer.readout_positions,
                distribution=_distribution(answer),
                milliseconds=asdict(answer.timing),
                peak_bytes=peak,
                survival=self.seen.survival(task.sample, answer.trace),
            )
            for (task, _), answer in zip(encoded, answers, strict=True)
        ]

    def _pruner(self, condition: Condition) -> Method:
        if condition.id not in self._pruners:
            assumed = {"assumed": TYPICAL_COMPLEXITY} if takes_measured(condition) else {}
            self._pruners[condition.id] = self._make_pruner(condition, **assumed)
        return self._pruners[condition.id]

    def _pruner_of(self, task: Task, condition: Condition) -> Method:
        sample = task.sample
        if condition.seed is not None:
            # A method's draw depends on its seed alone. With a seed per sample, it does not depend on what ran before.
            return self._make_pruner(condition, seed=sample_seed(condition.seed, sample.key))
        if OBJECTS in condition.resolved:
            require_objects(sample)
            return self._make_pruner(condition, **{OBJECTS: self.seen.nearness(sample)})
        return self._make_pruner(condition, assumed=task.taken.get(condition.id))

    @cached_property
    def seen(self) -> SeenObjects:
        """Which visual tokens see the objects of samples."""
        look = self.appearance()
        return SeenObjects(np.array(look.paths), look.padded, Path(self.config.data.image_root))

    def _make_pruner(self, condition: Condition, **own: Any) -> Method:
        return make_pruner(
            condition.method,
            Budget.retention(condition.retention or 1.0, cast(Accounting, self.config.pruning.accounting)),
            num_layers=self.shape.layers,
            num_heads=self.checkpoint.config.text_config.num_attention_heads,
            num_visual=self.shape.num_visual,
            **{**condition.options, **own},
        )


def require_objects(sample: PlanningSample) -> None:
    """Raises InputError where the planning set does not tell what the oracle controls go by."""
    if sample.objects is None:
        problem, hint = "the sample does not tell its objects", "convert with --objects, or leave out oracle controls"
        raise InputError(problem, where=f"sample {sample.key}", hint=hint)


@contextmanager
def naming(sample: PlanningSample) -> Iterator[None]:
    """Name the sample whose question or images are refused."""
    try:
        yield
    except InputError as error:
        raise InputError(error.problem, where=f"sample {sample.key}", hint=error.hint) from error


def _distribution(answer: Plan | Reply) -> tuple[float, ...] | None:
    if isinstance(answer, Plan) and answer.distribution:
        return tuple(rounded(p) for p in answer.distribution.values())
    return None


def sample_seed(seed: int, key: str) -> int:
    """A seed per sample, the same in any order of samples and number of processes."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:4], "big")


def plain_trace(trace: SampleTrace, depths: bool) -> Trace:
    """A trace as plain numbers."""
    entered = [0] * trace.num_visual
    if depths:
        for kept in trace.kept():
            for index in kept:
                entered[index] += 1
    return Trace(
        entering=trace.entering,
        after=trace.after,
        text=trace.num_text,
        per_view=tuple(tuple(row) for row in trace.per_view()),
        complexity=None if trace.complexity is None else rounded(trace.complexity),
        depths=tuple(entered) if depths else None,
    )
