"""Settings of `tools/benchmark.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from senna_prune.config import DTYPES, one_of, require_shares
from senna_prune.errors import ConfigError
from senna_prune.pruning.registry import method_names


@dataclass
class HostConfig:
    """The model that is timed: a checkpoint, or random weights of a given shape.

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
        host: the model.
        device, dtype: as in evaluation.
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
    host: HostConfig = field(default_factory=HostConfig)
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
        one_of(self.dtype, DTYPES, "dtype")
        for name in self.compare:
            one_of(name, ("sdpa", "eager", "flash_attention_2"), "compare")
        for method in self.methods:
            one_of(method, method_names(), "methods")
        require_shares(self.retentions, "retentions")
        counts = [("warmup", self.warmup), ("repeats", self.repeats), ("new_tokens", self.new_tokens)]
        for key, value in [*counts, *(("batch_sizes", size) for size in self.batch_sizes)]:
            if value < 1:
                raise ConfigError(f"{value} is less than 1", where=key)
        if not self.compare or not self.retentions or not self.batch_sizes:
            raise ConfigError("an empty list leaves nothing to time", where="compare, retentions or batch_sizes")
