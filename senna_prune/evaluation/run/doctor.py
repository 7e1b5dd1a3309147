"""What an evaluation would run into, found in a minute: one line for each part that it needs."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from transformers.utils.import_utils import is_flash_attn_2_available

from senna_prune.config import EvaluationConfig
from senna_prune.cost import decision_flops, kv_bytes
from senna_prune.devices import find_device
from senna_prune.errors import InputError, SennaPruneError
from senna_prune.evaluation.run.planning_set import planning_set, require_images
from senna_prune.evaluation.run.reading import ImageReader
from senna_prune.evaluation.run.senna_system import SennaSystem
from senna_prune.evaluation.run.sweep import expand
from senna_prune.evaluation.run.system import Task
from senna_prune.task.labels import CAMERAS, PLAN, view_label
from senna_prune.task.prompts import planning_question
from senna_prune.task.sample import PlanningSample

PATIENCE = 60
"""Seconds that a plan may take before it is only estimated."""
GB = 1e9


class Doctor:
    """Examines one checkpoint on one device, with or without a planning set.

    A part that does not work is said and the parts that need it are left out; nothing is raised for it.

    Args:
        config: what an evaluation would be told; its methods are planned with.
        with_set: the planning set of the configuration is examined and its first frame planned; else a grey frame.
        say: takes each line as soon as it is known.

    Attributes:
        failed: the parts that do not work.

    Raises:
        PruningError: of the settings: a method or option that does not exist.
    """

    def __init__(self, config: EvaluationConfig, with_set: bool, say: Callable[[str], object]) -> None:
        self.config, self.with_set, self.say = config, with_set, say
        self.system = SennaSystem(config)
        self.conditions = expand(config.pruning)
        self.failed: list[str] = []

    def examine(self, patient: bool = False) -> list[str]:
        """Examine every part; returns those that do not work.

        Args:
            patient: plan however long it takes.
        """
        with self._part("device"):
            device = find_device(self.config.model.device, "model.device")
            self._device(device)
        with self._part("checkpoint"):
            self._checkpoint()
        opened = "checkpoint" not in self.failed
        if opened:
            with self._part("weights"):
                self._weights()
                if "device" not in self.failed:
                    self._choose_type(device)
            self._tower_and_tokenizer()
            with self._part("cameras"):
                self._cameras()
        sample = None
        if self.with_set:
            with self._part("planning set"):
                sample = self._planning_set()
        self._convention(sample)
        with self._part("attention"):
            self._attention()
        if opened and not {"device", "weights"} & {*self.failed}:
            with self._part("memory"):
                self._memory(device)
        if self.failed:
            self._line("-", "plan", f"not tried, as {', '.join(self.failed)} will not work")
        else:
            self._plans(device, sample or grey_sample(self.system.checkpoint.config.camera_names), patient)
        return self.failed

    def _line(self, word: str, part: str, text: str) -> None:
        self.say(f"{word:<3} {part:<14} {text}")

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        try:
            yield
        except SennaPruneError as error:
            self.failed.append(name)
            self._line("NO", name, str(error))

    def _device(self, device: torch.device) -> None:
        if device.type == "cuda":
            self._line("ok", "device", f"{device}, {torch.cuda.get_device_name(device)}")
        else:
            more = "a CUDA device is there: model.device=cuda" if torch.cuda.is_available() else "no CUDA device here"
            self._line("ok", "device", f"{device}, {torch.get_num_threads()} threads of torch; {more}")

    def _checkpoint(self) -> None:
        config = self.system.checkpoint.config
        text = config.text_config
        size = f"{text.num_hidden_layers} layers of width {text.hidden_size}"
        self._line("ok", "checkpoint", f"{self.config.model.path}: a Senna of {size}")

    def _weights(self) -> None:
        self.system.checkpoint.check()
        kinds, self.numbers = Counter[str](), 0
        for shard in self.system.checkpoint.shards():
            for tensor in shard.values():
                kinds[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
        self.numbers = kinds.total()
        stored = " and ".join(kinds)
        self._line("ok", "weights", f"{self.numbers / 1e6:,.0f} million numbers, {stored}; names and shapes fit")

    def _choose_type(self, device: torch.device) -> None:
        """Where nobody has: float32 on a CPU with room for it, which computes fastest in it; else as stored."""
        model = self.config.model
        if model.dtype == "auto" and device.type == "cpu" and 4 * self.numbers < free_memory(device) / 2:
            model.dtype = "float32"

    def _tower_and_tokenizer(self) -> None:
        checkpoint = self.system.checkpoint
        config, vision = checkpoint.config, checkpoint.config.vision_config
        sizes = f"{vision.image_size} x {vision.image_size} pixels, {config.num_patches} patches"
        run = f"{config.num_vision_layers} of {vision.num_hidden_layers} layers run"
        self._line("ok", "tower", f"{sizes} -> {config.num_view_tokens} tokens per camera; {run}")
        self._line("ok", "tokenizer", f"{len(checkpoint.processor.tokenizer):,} pieces")

    def _cameras(self) -> None:
        config = self.system.checkpoint.config
        if not config.camera_names:
            hint = "name them in config.json (cameras), in the order of the prompt's labels"
            raise InputError(f"the checkpoint does not name its {config.num_views} cameras", hint=hint)
        self._line("ok", "cameras", ", ".join(map(view_label, config.camera_names)))

    def _planning_set(self) -> PlanningSample:
        data = self.config.data
        samples = planning_set(data, self.config.limit).samples
        if "checkpoint" not in self.failed:
            self.system.resolve(self.conditions[0], samples[0])  # its cameras are the checkpoint's
        require_images(samples, Path(data.image_root))
        scenes = len({sample.scene for sample in samples})
        self._line("ok", "planning set", f"{len(samples):,} plans of {scenes:,} scenes; all images are there")
        return samples[0]

    def _convention(self, sample: PlanningSample | None) -> None:
        name = "corrected" if sample is None else sample.convention.name
        self._line("ok", "convention", f"{name}{', assumed without a planning set' if sample is None else ''}")

    def _attention(self) -> None:
        chosen, flash = self.config.model.attn_implementation, is_flash_attn_2_available()
        if chosen == "flash_attention_2" and not flash:
            raise InputError("flash_attention_2 is not installed", hint="use model.attn_implementation=sdpa")
        self._line("ok", "attention", f"{chosen}; flash_attention_2 is {'' if flash else 'not '}installed")

    def _memory(self, device: torch.device) -> None:
        shape = self.system.shape
        cache = kv_bytes(shape, [shape.num_visual] * shape.layers, 256)
        needed, free = self.numbers * shape.value_bytes + cache, free_memory(device)
        kind = "as stored" if self.config.model.dtype == "auto" else self.config.model.dtype
        sizes = f"{needed / GB:.1f} GB for weights and cache ({kind}), {free / GB:.1f} GB are free on {device}"
        if needed > free:
            half = "use model.dtype=bfloat16 for half of it, or " if shape.value_bytes > 2 else ""
            raise InputError(f"does not fit: {sizes}", hint=f"{half}use a device with more memory")
        self._line("ok", "memory", sizes)

    def _plans(self, device: torch.device, sample: PlanningSample, patient: bool) -> None:
        """Every condition on one frame, twice: the second time nothing has to be allocated any more."""
        seconds = estimated_seconds(self.system, device)
        if seconds > PATIENCE and not patient:
            hint = "plan on a CUDA device, or add --patient"
            self._line("-", "plan", f"not tried: about {2 * seconds:,.0f} s each on {device}; {hint}")
            return
        with self._part("plan"):
            self.system.load()
            images = ImageReader(Path(self.config.data.image_root), {})
            views = images.read(sample)[0] if self.with_set else grey(sample)
            frame = self.system.encode([self.system.prepare(Task(sample, (), False, {}), views)])
        if "plan" in self.failed:
            return
        for condition in self.conditions:
            with self._part(condition.id):
                self.system.decide_encoded(frame, condition)
                (decision,) = self.system.decide_encoded(frame, condition)
                assert decision.trace is not None
                entering, spent = decision.trace.entering, sum(decision.milliseconds.values())
                tokens = f"{sum(entering) / len(entering):.0f} of {self.system.shape.num_visual} tokens per layer"
                self._line("ok", condition.id, f"{decision.answer}; {tokens}; {spent:.0f} ms")
        self._tips(device)

    def _tips(self, device: torch.device) -> None:
        """Settings to try."""
        model, compiler = self.config.model, shutil.which("g++") or shutil.which("clang++")
        if not model.compiled and (device.type == "cuda" or compiler):
            self._line("tip", "speed", "model.compiled=true runs single frames as graphs")
        if device.type == "cuda" and self.system.shape.value_bytes > 2:
            self._line("tip", "speed", "model.dtype=bfloat16 halves memory and is faster on this device")
        if self.system.checkpoint.config.camera_names == CAMERAS:
            hint = "the released converter swapped five cameras: data.camera_orders=[corrected,upstream] tries both"
            self._line("tip", "camera order", hint)


def grey_sample(cameras: tuple[str, ...]) -> PlanningSample:
    """A planning question about images that are nowhere."""
    question = planning_question(5.0, "go straight", tuple(map(view_label, cameras)))
    images = {camera: f"{camera}.png" for camera in cameras}
    return PlanningSample("doctor", "doctor", 0, PLAN, images, question, "KEEP, STRAIGHT")


def grey(sample: PlanningSample) -> list[bytes]:
    """Its images as files: noise about grey, so that no two tokens are equal."""
    views, chance = [], torch.Generator().manual_seed(0)
    for _ in sample.images:
        noise = torch.randint(96, 160, (336, 336, 3), dtype=torch.uint8, generator=chance)
        Image.fromarray(noise.numpy()).save(file := io.BytesIO(), "PNG")
        views.append(file.getvalue())
    return views


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had there."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def estimated_seconds(system: SennaSystem, device: torch.device) -> float:
    """Of one unpruned plan, by its matrix products and the speed of one such product here."""
    shape = system.shape
    dtype = {2: torch.bfloat16, 8: torch.float64}.get(shape.value_bytes, torch.float32)
    square = torch.ones(1024, 1024, dtype=dtype, device=device)
    (square @ square).sum().item()
    began = time.perf_counter()
    (square @ square).sum().item()
    speed = 2 * 1024**3 / (time.perf_counter() - began)
    return decision_flops(shape, [shape.num_visual] * shape.layers, 256, 10).total / speed
