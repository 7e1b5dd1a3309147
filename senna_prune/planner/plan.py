"""What goes into the `Planner` and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor

from senna_prune.engine import SampleTrace
from senna_prune.hosts.senna import senna_vision_scores
from senna_prune.image_files import AnyImage
from senna_prune.planner.timing import Stopwatch, Timing
from senna_prune.pruning.base import VisionScores
from senna_prune.task.labels import Command, Path, Speed

if TYPE_CHECKING:
    from senna_prune.planner.encoder import FrameEncoder


@dataclass(frozen=True)
class Reply:
    """The answer to a question, and how it came about.

    Attributes:
        text: the answer in words.
        readout_positions: tokens that ran through the decoder after the prompt.
        trace: which visual tokens entered which layer, on the host.
        timing: milliseconds per stage.
    """

    text: str
    readout_positions: int
    trace: SampleTrace
    timing: Timing

    def __repr__(self) -> str:
        """One line; the trace's tensors would fill pages."""
        mean = sum(self.trace.entering) / len(self.trace.entering)
        cost = f"{mean:.1f} of {self.trace.num_visual} visual tokens per layer; {self.timing.total:.0f} ms"
        return f"{type(self).__name__}({self._answer()}; {cost})"

    def _answer(self) -> str:
        return repr(self.text)


@dataclass(frozen=True, repr=False)
class Plan(Reply):
    """A meta-action for the next three seconds, and how it came about; see `Reply`.

    Attributes:
        speed, path: the plan; None where a freely generated answer names no class or contradicts itself.
        distribution: probability of each of the 20 plans, normalised over them, in the order of `PLANS`; None with
            readout "generate", which computes none.
    """

    speed: Speed | None
    path: Path | None
    distribution: Mapping[tuple[Speed, Path], float] | None

    def _answer(self) -> str:
        if self.speed is None or self.path is None:
            return repr(self.text)
        odds = "" if self.distribution is None else f"; probability {self.distribution[self.speed, self.path]:.2f}"
        return f"{self.speed.value}, {self.path.value}{odds}"


@dataclass(frozen=True)
class Frame:
    """What `Planner.plan_batch` needs of one moment; see `Planner.plan`."""

    images: Mapping[str, AnyImage]
    speed: float
    command: Command | str


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
        scores = [senna_vision_scores(*frame, paths=self.encoder.paths)[0] for frame in own]
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
