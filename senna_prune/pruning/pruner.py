"""A pruning method built for one decoder and one budget: what the engine works with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from senna_prune.errors import PruningError
from senna_prune.pruning.base import Complexity, LayerCounts, Merger, Observation, Scorer, Selection
from senna_prune.pruning.schedules import Resolution, Schedule
from senna_prune.pruning.selection import kept_first

Positions = Literal["original", "repacked"]
TextScope = Literal["question", "all_text"]
Scope = Literal["joint", "per_view"]


@dataclass(frozen=True)
class Pruner:
    """Complexity + schedule + scorer + merger + options. No hooks, and no state but solved schedules.

    Attributes:
        name: registered name of the method.
        schedule: how many tokens enter each layer.
        scorer: which ones.
        complexity: number per sample the schedule depends on, or None.
        merger: what becomes of the others; None drops them all.
        positions, text_scope, scope, min_tokens_per_view, view_weights: see `method.Method`.
        num_layers: decoder layers it was built for; None fits any decoder.
    """

    name: str
    schedule: Schedule
    scorer: Scorer
    complexity: Complexity | None = None
    merger: Merger | None = None
    positions: Positions = "original"
    text_scope: TextScope = "question"
    scope: Scope = "joint"
    min_tokens_per_view: int = 0
    view_weights: tuple[float, ...] | None = None
    num_layers: int | None = None
    _solved: dict[tuple[int, int, float | None], LayerCounts] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def needs(self) -> frozenset[str]:
        """Everything the engine must provide at the boundaries where tokens are cut or complexity is measured."""
        return self.scorer.needs | (self.complexity.needs if self.complexity else frozenset())

    def plan(self, num_visual: int, num_layers: int, complexity: float | None = None) -> LayerCounts:
        """Tokens per layer; see `Schedule.plan`. Equal arguments are solved once, as it takes milliseconds."""
        asked = (num_visual, num_layers, complexity)
        if asked not in self._solved:
            if len(self._solved) >= 1024:
                self._solved.clear()
            self._solved[asked] = self.schedule.plan(*asked)
        return self._solved[asked]

    def resolve(self, num_visual: int, num_layers: int, complexity: float | None = None) -> Resolution:
        """The counts and how they were found."""
        return self.schedule.resolve(num_visual, num_layers, complexity)

    def select(self, observation: Observation, keep_total: int, merged: int) -> Selection:
        """The tokens that stay behind a boundary.

        Args:
            observation: the sample before the cut.
            keep_total: tokens behind the boundary, `tokens[l]` of the counts.
            merged: how many of them are merged anew, `merged[l]` of the counts.

        Raises:
            PruningError: `view_weights` are for another number of views.
        """
        weights = self.view_weights
        if weights is not None and len(weights) != observation.num_views:
            raise PruningError(
                f"{len(weights)} weights for {observation.num_views} views",
                where="option view_weights",
                hint="give one per view",
            )
        observation = replace(observation, keep=keep_total - merged)
        order = kept_first(
            self.scorer.score(observation),
            observation.views,
            observation.num_views,
            observation.keep,
            per_view=self.scope == "per_view",
            minimum=self.min_tokens_per_view,
            weights=weights,
        )
        keep = order[: observation.keep].sort().values
        return self.merger.merge(observation, order, keep, merged) if self.merger else Selection(keep)
