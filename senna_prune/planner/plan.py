"""What goes into the `Planner` and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from senna_prune.engine import SampleTrace
from senna_prune.pictures import Picture
from senna_prune.planner.evidence import Evidence
from senna_prune.planner.readouts import Distribution
from senna_prune.planner.timing import Timing
from senna_prune.task.labels import Command, Path, Speed


@dataclass(frozen=True)
class Plan:
    """A meta-action for the next three seconds and how it came about.

    Attributes:
        speed, path: the plan; None where a freely generated answer names no class or contradicts itself.
        text: the answer in words.
        distribution: probability of each of the 20 plans, normalised over them, in the order of `PLANS`; None with
            readout "generate", which computes none.
        trace: which visual tokens entered which layer.
        timing: milliseconds per stage.
        readout_positions: tokens that ran through the decoder after the prompt.
    """

    speed: Speed | None
    path: Path | None
    text: str
    distribution: Distribution | None
    trace: SampleTrace
    timing: Timing
    readout_positions: int


@dataclass(frozen=True)
class Frame:
    """What `Planner.plan_batch` needs of one moment; see `Planner.plan`."""

    images: Mapping[str, Picture]
    speed: float
    command: Command | str


@dataclass(frozen=True)
class LoadedFrame:
    """A frame before any model: what can be made ready in another thread while the model is at work.

    Attributes:
        input_ids: shape (S,), with placeholders.
        pixel_values: shape (views, 3, H, W), in the model's dtype; in pinned memory for a CUDA model.
        milliseconds: it took to make.
    """

    input_ids: Tensor
    pixel_values: Tensor
    milliseconds: float


@dataclass(frozen=True)
class EncodedFrame:
    """A frame up to the decoder: what any number of pruners can decide on.

    Attributes:
        input_ids: shape (S,), with placeholders.
        tokens: visual tokens, shape (1, views, T, D).
        stages: milliseconds of the stages behind it.
        evidence: what the tower saw of this frame and the others seen with it, computed if a pruner asks.
        number: which of them this is.
    """

    input_ids: Tensor
    tokens: Tensor
    stages: Mapping[str, float]
    evidence: Evidence
    number: int
