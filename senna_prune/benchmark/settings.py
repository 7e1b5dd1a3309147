"""Settings of `senna-prune benchmark`."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch

from senna_prune.config import DTYPES
from senna_prune.errors import ConfigError, one_of, require_between, require_shares
from senna_prune.image_files import MAX_PIXELS
from senna_prune.pruning.registry import method_names

MAX_POSITIONS = 4096
"""Longest prompt of the random model, as of Senna-7B."""
MIN_TEXT = 100
"""Shortest text around six views: a head, five labels and a question."""
VIEWS = 6
KINDS = ("senna", "llava", "llava_next", "qwen2_5_vl")
MAX_THREADS = 1024


@dataclass
class TimedModelConfig:
    """The host model that is timed: a checkpoint, or random weights of a given shape.

    Attributes:
        kind: `senna`; `llava`, `llava_next` or `qwen2_5_vl`: a random decoder of that model behind one encoded image.
        checkpoint: folder of a Senna; None: random weights of the shape below (Senna-7B by default).
        layers, hidden, mlp, heads, vocabulary: decoder.
        vision_layers, vision_hidden, vision_mlp, vision_heads, image_size, patch: CLIP tower; 0 layers: none.
        view_tokens: visual tokens per view; Senna has six views, the others one image.
        text_tokens: tokens of the prompt beside the visual ones.
    """

    kind: str = "senna"
    checkpoint: str | None = None
    layers: int = 32
    hidden: int = 4096
    mlp: int = 11008
    heads: int = 32
    vocabulary: int = 32000
    vision_layers: int = 24
    vision_hidden: int = 1024
    vision_mlp: int = 4096
    vision_heads: int = 16
    image_size: int = 336
    patch: int = 14
    view_tokens: int = 128
    text_tokens: int = 271

    def __post_init__(self) -> None:
        one_of(self.kind, KINDS, "host.kind")
        if self.checkpoint and self.kind != "senna":
            raise ConfigError("only a Senna is timed from a checkpoint", where="host.checkpoint", hint="set kind=senna")
        for key, value in vars(self).items():
            if key not in ("kind", "checkpoint"):
                require_between(f"host.{key}", value, {"vision_layers": 0, "vocabulary": 256}.get(key, 1), None)
        for width, heads in (("hidden", "heads"), ("vision_hidden", "vision_heads")):
            # Half of a head's numbers are rotated against the other half.
            if getattr(self, width) % (2 * getattr(self, heads)):
                problem = f"{getattr(self, width)} does not divide into {getattr(self, heads)} heads of even size"
                raise ConfigError(problem, where=f"host.{width}")
        if self.image_size < self.patch:
            raise ConfigError("the image is smaller than a patch", where="host.image_size")
        views = VIEWS if self.kind == "senna" else 1
        if self.kind == "senna" and self.view_tokens > (self.image_size // self.patch) ** 2:
            raise ConfigError("there are more visual tokens than patches", where="host.view_tokens")
        if not MIN_TEXT <= self.text_tokens <= MAX_POSITIONS - views * self.view_tokens:
            problem = f"{self.text_tokens} and {views} x {self.view_tokens} visual tokens are no prompt"
            hint = f"use {MIN_TEXT} text tokens or more, and {MAX_POSITIONS} tokens in all at most"
            raise ConfigError(problem, where="host.text_tokens", hint=hint)

    @property
    def parameters(self) -> int:
        """About how many numbers the random weights are."""
        decoder = self.layers * self.hidden * (4 * self.hidden + 3 * self.mlp) + 2 * self.vocabulary * self.hidden
        return decoder + self.vision_layers * self.vision_hidden * (4 * self.vision_hidden + 2 * self.vision_mlp)


@dataclass
class BenchmarkConfig:
    """All settings of `senna-prune benchmark`.

    Attributes:
        name: title, and the name of the files written.
        host: the host model.
        device: as in evaluation.
        dtype: `float32`, `bfloat16` or `float16`.
        threads: CPU threads; None: torch's choice.
        compare: attention implementations of the unpruned baseline (transformers' own `generate`).
        methods, retentions: what is timed beside it.
        packed: also run everything with weights packed for the CPU (`packed_linear`); holds a second model.
        compiled: also run unpruned and pruned one-pass plans as compiled graphs, which takes minutes to make.
        milliseconds: prefill times to ask for; the profile of an earlier run turns them into retentions.
        new_tokens: tokens that `generate` decodes.
        warmup, repeats: rounds; in every round each contestant runs once, in turn.
        batch_sizes: for throughput.
        images: size of the images (height, width) of the preprocess stage.
        output: folder of the result files.
    """

    name: str = "benchmark"
    host: TimedModelConfig = field(default_factory=TimedModelConfig)
    device: str = "auto"
    dtype: str = "float32"
    threads: int | None = None
    compare: list[str] = field(default_factory=lambda: ["sdpa", "eager"])
    methods: list[str] = field(default_factory=lambda: ["autoprune"])
    retentions: list[float] = field(default_factory=lambda: [0.2, 0.25, 0.3, 0.35, 0.4])
    packed: bool = False
    compiled: bool = False
    milliseconds: list[float] = field(default_factory=list)
    new_tokens: int = 10
    warmup: int = 2
    repeats: int = 10
    batch_sizes: list[int] = field(default_factory=lambda: [1])
    images: list[int] = field(default_factory=lambda: [900, 1600])
    output: str = "runs/benchmark"

    def __post_init__(self) -> None:
        # Times and floors belong to one type, so `auto` is no choice here.
        one_of(self.dtype, [name for name in DTYPES if name != "auto"], "dtype")
        if Path(self.name).name != self.name or self.name in ("", ".."):
            raise ConfigError(f"{self.name!r} is no file name", where="name", hint="set output= to choose the folder")
        for name in self.compare:
            one_of(name, ("sdpa", "eager", "flash_attention_2"), "compare")
        if "flash_attention_2" in self.compare and self.dtype == "float32":
            raise ConfigError("flash_attention_2 knows no float32", where="compare", hint="set dtype=bfloat16")
        for method in self.methods:
            one_of(method, method_names(), "methods")
        require_shares(self.retentions, "retentions")
        if self.packed and self.host.kind != "senna":
            raise ConfigError("weights are packed for Senna alone", where="packed", hint="set packed=false")
        if self.compiled and (self.host.kind != "senna" or self.compare[0] != "sdpa"):
            raise ConfigError("Senna alone is compiled, with sdpa", where="compiled", hint="list sdpa first in compare")
        for key in ("warmup", "repeats", "new_tokens", "threads", "batch_sizes", "images"):
            value = getattr(self, key)
            for number in value if isinstance(value, list) else [value]:
                require_between(key, number, 1, MAX_THREADS if key == "threads" else None)
        if len(self.images) != 2 or math.prod(self.images) > MAX_PIXELS:
            raise ConfigError("not the height and width of an image", where="images", hint="use e.g. [900,1600]")
        for time in self.milliseconds:
            if not 0 < time < math.inf:
                raise ConfigError(f"{time} is no time", where="milliseconds", hint="use a positive number")
        for key in ("compare", "methods", "retentions", "milliseconds", "batch_sizes"):
            values = getattr(self, key)
            if not values and key in ("compare", "retentions", "batch_sizes"):
                raise ConfigError("an empty list leaves nothing to time", where=key)
            if len(set(values)) < len(values):
                raise ConfigError("a value stands twice", where=key, hint="list each one once")

    @property
    def middle_retention(self) -> float:
        """The retention that is also read by `generate` and timed in batches: the one nearest to 25 %."""
        return min(self.retentions, key=lambda retention: abs(retention - 0.25))


def require_memory(needed: int, device: torch.device) -> None:
    """Refuse weights of more bytes than the device has in all.

    Raises:
        ConfigError: there are.
    """
    if device.type == "cuda":
        available = torch.cuda.get_device_properties(device).total_memory
    else:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > available:
        problem = f"weights of {needed / 2**30:,.0f} GiB do not fit into {available / 2**30:,.0f} GiB of memory"
        raise ConfigError(problem, where="host", hint="use fewer layers, smaller widths or a smaller dtype")
