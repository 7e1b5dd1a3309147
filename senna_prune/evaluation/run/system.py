"""What can be evaluated: anything with these few methods. Tests evaluate a dummy, `senna_system` wraps the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from senna_prune.cost import ModelShape
from senna_prune.evaluation.run.records import Condition, Decision
from senna_prune.task.sample import PlanningSample


@dataclass(frozen=True)
class ResolvedSchedule:
    """What a condition will do, as far as it is known before any sample is seen.

    Attributes:
        entering, after: visual tokens entering and after each layer.
        text: text tokens beside them.
        parameter: the free parameter that was solved for, in words.
        note: why the budget is missed, if it is, or what the schedule still depends on.
    """

    entering: tuple[int, ...]
    after: tuple[int, ...]
    text: int
    parameter: str = ""
    note: str = ""


@dataclass(frozen=True)
class Appearance:
    """How to draw visual tokens back onto an image.

    Attributes:
        paths: share of each patch in each token of a view, shape (view_tokens, patches), rows summing to 1.
        padded: images were centred on a square before they were cut into patches.
    """

    paths: Sequence[Sequence[float]]
    padded: bool


class EvaluatedSystem(Protocol):
    """A system that decides planning samples. Everything before `load` must be cheap."""

    @property
    def shape(self) -> ModelShape:
        """Numbers that decide the cost."""
        ...

    def digest(self) -> str:
        """Digest of the weights and of everything else in the checkpoint."""
        ...

    def resolve(self, condition: Condition, sample: PlanningSample) -> ResolvedSchedule:
        """The schedule of a condition on a sample like this one; `PruningError` if it cannot be built."""
        ...

    def load(self) -> None:
        """Get ready to decide."""
        ...

    def appearance(self) -> Appearance:
        """For images of kept tokens."""
        ...

    def prepare(self, sample: PlanningSample, pictures: Sequence[bytes]) -> Any:
        """What a sample needs before any model is run.

        `ImageError` if an image is unusable; an `InputError` names the sample, whose question is to be changed.

        Called in a background thread, one sample at a time, while the model decides others.

        Args:
            sample: to be decided.
            pictures: the bytes of its image files, in the order of the prompt's labels.
        """
        ...

    def encode(self, prepared: Sequence[Any]) -> Any:
        """Whatever all conditions share for samples that are decided together."""
        ...

    def decide(
        self, encoded: Any, condition: Condition, depths: Sequence[bool], taken: Sequence[float | None]
    ) -> list[Decision]:
        """Decide encoded samples under one condition.

        Args:
            encoded: what `encode` returned.
            condition: one that `resolve` accepted.
            depths: whether each one's `Trace.depths` is asked for.
            taken: each one's complexity where the condition measures none (see `controls`), else None.
        """
        ...
