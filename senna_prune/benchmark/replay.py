"""Repeats a pruned prefill with the selections recorded before: the time saved is the cost of choosing tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from senna_prune.engine import SampleTrace
from senna_prune.pruning import Pruner
from senna_prune.pruning.base import LayerCounts, Observation, Selection


@dataclass
class Recorder:
    """Acts as `pruner` and notes its selections, by layer; one sample at a time."""

    pruner: Pruner
    selections: dict[int, Selection] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pruner, name)

    def select(self, observation: Observation, keep_total: int, merged: int) -> Selection:
        selection = self.pruner.select(observation, keep_total, merged)
        self.selections[observation.layer] = selection
        return selection


@dataclass(frozen=True)
class Replay:
    """Carries out recorded selections: same gathers, same lengths, no probe, no complexity, no scores."""

    layer_plan: LayerCounts
    selections: dict[int, Selection]
    positions: str
    name: str = "replay"
    needs: frozenset[str] = frozenset()
    text_scope: str = "question"
    measured_layer: None = None

    @classmethod
    def of(cls, recorder: Recorder, trace: SampleTrace) -> Replay:
        """The replay of the prefill that `recorder` has just watched."""
        return cls(trace.counts, dict(recorder.selections), recorder.pruner.positions)

    def plan(
        self, num_visual: int, num_layers: int, complexity: float | None = None, text: int | None = None
    ) -> LayerCounts:
        return self.layer_plan

    def select(self, observation: Observation, keep_total: int, merged: int) -> Selection:
        return self.selections[observation.layer]
