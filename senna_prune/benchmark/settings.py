"""Settings of `tools/benchmark.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from senna_prune.config import DTYPES, one_of, require_shares
from senna_prune.errors import ConfigError
from senna_prune.pruning.registry import method_names


@dataclass
class TimedModelConfig:
    """The host model that is timed: a checkpoint, or random weights of a given shape.

    Attributes:
        checkpoint: folder of a Senna; None: random weights of the shape below (Senna-7B by default).
        layers, hidden, mlp, heads, vocabulary: decoder.
        vision_layers, vision_hidden, vision_mlp, vision_heads, image_size, patch: CLIP tower; 0 layers: none.
        view_tokens: visual tokens per view; there are six views.
        text_tokens: tokens of the prompt beside the visual ones.
    """

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


@dataclass
class BenchmarkConfig:
    """Everything `tools/benchmark.py` can be told.

    Attributes:
        name: title, and the name of the files written.
        host: the host model.
        device: as in evaluation.
        dtype: `float32`, `bfloat16` or `float16`.
        threads: CPU threads; None: torch's choice.
        compare: attention implementations of the unpruned baseline (transformers' own `generate`).
        methods, retentions: what is timed beside it.
        packed: also run everything with weights packed for the CPU (`model.packing`); holds a second model.
        milliseconds: prefill times to ask for; the profile of an earlier run turns them into retentions.
        new_tokens: tokens that `generate` decodes.
        warmup, repeats: rounds; in every round each contestant runs once, in turn.
        batch_sizes: for throughput.
        images: pictures (height, width) of the preprocess stage.
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
        for name in self.compare:
            one_of(name, ("sdpa", "eager", "flash_attention_2"), "compare")
        for method in self.methods:
            one_of(method, method_names(), "methods")
        require_shares(self.retentions, "retentions")
        counts = {name: [getattr(self, name)] for name in ("warmup", "repeats", "new_tokens", "threads")}
        for key, values in {**counts, "batch_sizes": self.batch_sizes, "images": self.images}.items():
            for value in values:
                if value is not None and value < 1:
                    raise ConfigError(f"{value} is less than 1", where=key)
        if len(self.images) != 2:
            raise ConfigError("not a height and a width", where="images", hint="write e.g. images=[900,1600]")
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
