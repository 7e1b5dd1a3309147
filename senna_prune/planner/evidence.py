"""Evidence of the vision tower, computed when the first pruner asks for it: most methods do not."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from torch import Tensor

from senna_prune.hosts.senna import senna_vision_scores
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.planner.timing import Stopwatch
from senna_prune.pruning.base import VisionScores


class Evidence:
    """Evidence of frames that went through the tower together.

    Args:
        model: whose tower saw them.
        entering: hidden states that entered the last layer that ran, (frames * views, 1 + patches, width).
        frames: how many.
        paths: returns `adapter_paths` of the model.
    """

    def __init__(
        self,
        model: SennaForConditionalGeneration,
        entering: Tensor,
        frames: int,
        paths: Callable[[], Tensor],
    ) -> None:
        self.model, self.entering, self.frames, self.paths = model, entering, frames, paths

    @cached_property
    def computed(self) -> tuple[list[VisionScores], float]:
        """Evidence per frame, and the milliseconds it took for each.

        Raises:
            InputError: the tower has no layer to read it from.
        """
        inner, watch = self.model.model, Stopwatch(self.entering.device)
        attention, keys = (part.unflatten(0, (self.frames, 1, -1)) for part in inner.vision_scores(self.entering))
        found = [senna_vision_scores(*frame, self.paths())[0] for frame in zip(attention, keys, strict=True)]
        del self.entering
        watch.lap("vision")
        return found, watch.stages["vision"] / self.frames
