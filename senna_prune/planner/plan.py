"""What goes into the `Planner` and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from senna_prune.engine import SampleTrace
from senna_prune.model.vision import SennaImageFeatures
from senna_prune.pictures import Picture
from senna_prune.planner.evidence import Evidence
from senna_prune.planner.readouts import Reading, TextReading
from senna_prune.planner.timing import Timing
from senna_prune.task.labels import Command


@dataclass(frozen=True)
class Plan(Reading):
    """A meta-action for the next three seconds (see `Reading`) and how it came about.

    Attributes:
        trace: which visual tokens entered which layer.
        timing: milliseconds per stage.
    """

    trace: SampleTrace
    timing: Timing

    def __repr__(self) -> str:
        """One line; the trace's tensors would fill pages."""
        odds, known = self.distribution, [part.value for part in (self.speed, self.path) if part is not None]
        answer = ", ".join(known) if len(known) == 2 else repr(self.text)
        if odds is not None and self.speed is not None and self.path is not None:
            answer += f"; probability {odds[self.speed, self.path]:.2f}"
        return f"Plan({answer}; {_cost(self.trace, self.timing)})"


@dataclass(frozen=True)
class Reply(TextReading):
    """The answer to a question that does not ask for a plan (see `TextReading`) and how it came about.

    Attributes:
        trace: which visual tokens entered which layer.
        timing: milliseconds per stage.
    """

    trace: SampleTrace
    timing: Timing

    def __repr__(self) -> str:
        """One line, as a plan's."""
        return f"Reply({self.text!r}; {_cost(self.trace, self.timing)})"


def _cost(trace: SampleTrace, timing: Timing) -> str:
    mean = sum(trace.entering) / len(trace.entering)
    return f"{mean:.1f} of {trace.num_visual} visual tokens per layer; {timing.total:.0f} ms"


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
        features: visual tokens, batch of one; their evidence is in `evidence`.
        stages: milliseconds of the stages that made it.
        evidence: what the tower saw of this frame and of those encoded with it, computed when a pruner asks.
        number: which of these frames it is.
    """

    input_ids: Tensor
    features: SennaImageFeatures
    stages: Mapping[str, float]
    evidence: Evidence
    number: int
