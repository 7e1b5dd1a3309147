"""What a method is: a frozen dataclass of options that makes the parts of a pruner for one decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from senna_prune.errors import PruningError
from senna_prune.pruning.base import Complexity, Merger, Scorer
from senna_prune.pruning.budget import Budget
from senna_prune.pruning.options import shown
from senna_prune.pruning.pruner import Positions, Scope, TextScope
from senna_prune.pruning.schedules import Schedule

Tier = Literal["nowhere", "before the decoder, once", "inside, once", "inside, several times", "inside, every layer"]
"""Where a method cuts tokens. A serving engine keeps one length of the KV cache for all layers, so that today it can
only run a method that cuts before the decoder."""


@dataclass(frozen=True)
class Target:
    """The decoder and the budget a method is built for."""

    budget: Budget
    num_layers: int
    num_heads: int


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """Options of a method; the defaults of a subclass are the published ones.

    Attributes:
        tier: where the method cuts tokens; every subclass says it.
        positions: kept tokens keep their RoPE positions ("original") or are renumbered without gaps ("repacked").
        text_scope: text queries whose attention counts: those after the last view ("question"), or all.
        scope: the views compete for one budget ("joint"), or each gets an equal share of it.
        min_tokens_per_view: tokens every view keeps at every boundary, as far as the budget allows.
        view_weights: one factor per view on its scores (on its share with scope "per_view"), e.g. [2, 1, 1, 1, 1, 1];
            see `selection.select_top`.
    """

    tier: ClassVar[Tier]
    positions: Positions = "original"
    text_scope: TextScope = "question"
    scope: Scope = "joint"
    min_tokens_per_view: int = 0
    view_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        self.require(self.min_tokens_per_view >= 0, "min_tokens_per_view", "a count of tokens, 0 or more")
        weights = self.view_weights
        self.require(weights is None or (min(weights, default=0) >= 0 < sum(weights)), "view_weights", "0 or more each")

    def require(self, holds: bool, option: str, rule: str) -> None:
        """Refuse an option's value.

        Raises:
            PruningError: `holds` is false.
        """
        if not holds:
            raise PruningError(
                f"{shown(getattr(self, option))} is out of range", where=f"option {option}", hint=f"give {rule}"
            )

    @property
    def ranks_by_view(self) -> bool:
        """Whether options say what single views get, so that the order of tokens that would be kept without them does
        not suffice."""
        return self.scope == "per_view" or self.min_tokens_per_view > 0 or self.view_weights is not None

    @abstractmethod
    def schedule(self, target: Target) -> Schedule:
        """How many tokens enter each layer."""

    @abstractmethod
    def scorer(self, target: Target) -> Scorer:
        """Which ones."""

    def complexity(self, target: Target) -> Complexity | None:
        """Number per sample the schedule depends on."""
        return None

    def merger(self, target: Target) -> Merger | None:
        """What becomes of the others."""
        return None


@dataclass(frozen=True, kw_only=True)
class OneCutInside(Method):
    """A method that cuts once, before a layer inside the decoder.

    Attributes:
        published_layer: that layer in a decoder of 32.
        layer: layer before which tokens are cut, counted from 0; by default the published one of 32, in proportion at
            other depths.
    """

    tier = "inside, once"
    published_layer: ClassVar[int]
    layer: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.layer is None or self.layer >= 1, "layer", "a layer from 1 on")

    def boundary(self, target: Target) -> int:
        """The layer for this host.

        Raises:
            PruningError: the decoder has no layer behind another, or not the one asked for.
        """
        if target.num_layers == 1:
            raise PruningError(
                "a decoder of one layer has none to cut before",
                where=f"method {type(self).__module__.rpartition('.')[2]}",
                hint="take a method that cuts before the decoder",
            )
        layer = self.layer or max(round(target.num_layers * self.published_layer / 32), 1)
        self.require(layer < target.num_layers, "layer", f"a layer below {target.num_layers}")
        return layer
