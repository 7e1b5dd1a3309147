"""What a pruning method is, what it sees of a sample and what it returns: the one file to read before writing one.

A method sees one sample at one *boundary*: boundary `l` comes before decoder layer `l`, boundary 0 before the decoder.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Set
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from senna_prune.errors import PruningError, brief
from senna_prune.pruning.budget import Budget, LayerCounts, Resolution
from senna_prune.pruning.options import option
from senna_prune.pruning.selection import kept_first

# What a method may need, and where it finds it in its `Observation`. "Just run" is layer `layer - 1`.
TEXT_ATTENTION = "text_attention"  # `attention`: rows of the text queries in the layer just run
LAST_ATTENTION = "last_attention"  # `attention`: the row of the last prompt token in the layer just run
NEXT_ATTENTION = "next_attention"  # `attention`: that row under the *next* layer's norm and projections
KEYS = "keys"  # `keys`: of the layer just run, after RoPE
NORMED = "normed"  # `normed`: hidden states under the decoder's final norm
VISION = "vision"  # `vision_score`, `vision`: what the vision tower says
EMBEDDINGS = "embeddings"  # `text_embeddings`, `visual_embeddings`: the decoder's inputs
ROPE_PRODUCT = "rope_product"  # `rope_product`: of two all-ones vectors per (query, visual) pair

Stage = Literal["nowhere", "before the decoder, once", "inside, once", "inside, several times", "inside, every layer"]
Positions = Literal["original", "repacked"]
Scope = Literal["joint", "per_view"]
TextScope = Literal["question", "all_text"]


@dataclass(frozen=True)
class VisionScores:
    """What the vision tower says about one sample's visual tokens: class-token attention, shape (num_visual,), on Senna
    mapped through the adapter (`hosts.senna`); and key projections, shape (num_visual, key_dim), or None."""

    score: Tensor
    keys: Tensor | None = None


@dataclass(frozen=True)
class Observation:
    """One sample at one boundary; what the method does not need is None.

    Attributes:
        layer, num_layers: the layer about to be entered, of how many.
        origin: index of each of the n visual tokens in the sample's original visual list, shape (n,), int64;
            a merged token has -1 - the layer before which it was merged.
        views, num_views: view number of each visual token, shape (n,), int64, ascending; number of views.
        slots: indices of the visual tokens among the rows of `sequence` and the columns of `rows`, (n,), ascending.
        sequence: hidden states entering the layer, text and visual, shape (length, d).
        queries: indices of the text queries among the rows of `sequence`, or how many of its last rows they are.
        keep: how many of the n tokens the score is to choose; `Method.select` sets it.
        rows: softmax attention over the whole causal row, float32, shape (heads, queries, length).
        sequence_keys: keys of the whole sequence, (key_value_heads, length, head_dim); None at boundary 0.
        normed: `sequence` under the decoder's final norm.
        vision: over the *original* visual list; index it with `origin`.
        text_embeddings, visual_embeddings: decoder inputs, shapes (queries, d) and (num_visual, d).
        rope_product: shape (queries, n), float32.
    """

    layer: int
    num_layers: int
    origin: Tensor
    views: Tensor
    num_views: int
    slots: Tensor
    sequence: Tensor
    queries: Tensor | int = 0
    keep: int = 0
    rows: Tensor | None = None
    sequence_keys: Tensor | None = None
    normed: Tensor | None = None
    vision: VisionScores | None = None
    text_embeddings: Tensor | None = None
    visual_embeddings: Tensor | None = None
    rope_product: Tensor | None = None

    @cached_property
    def hidden(self) -> Tensor:
        """Hidden states of the visual tokens, shape (n, d)."""
        return self.sequence.index_select(0, self.slots)

    @cached_property
    def keys(self) -> Tensor:
        """Keys of the visual tokens, in the model's dtype, shape (key_value_heads, n, head_dim)."""
        assert self.sequence_keys is not None, "the method does not say that it needs KEYS"
        return self.sequence_keys.index_select(1, self.slots)

    @cached_property
    def attention(self) -> Tensor:
        """Softmax attention to the visual tokens, exact denominator, float32, shape (heads, queries, n)."""
        assert self.rows is not None, "the method does not say that it needs attention"
        return self.rows.index_select(-1, self.slots)

    @property
    def mean_attention(self) -> Tensor:
        """`attention` averaged over heads and queries, shape (n,); cheaper than taking it apart."""
        assert self.rows is not None, "the method does not say that it needs attention"
        return self.rows.mean((0, 1)).index_select(-1, self.slots)

    @property
    def vision_score(self) -> Tensor:
        """Class-token attention of the vision tower, float32, shape (n,); merged tokens get 0."""
        assert self.vision is not None, "the method does not say that it needs VISION"
        score = self.vision.score.float()
        return torch.where(self.origin >= 0, score[self.origin.clamp(min=0)], score.new_zeros(()))


@dataclass(frozen=True)
class Selection:
    """The tokens behind a boundary.

    Attributes:
        keep: indices into the visual tokens, ascending and unique, shape (k,), int64.
        merged: hidden states of new tokens, shape (c, d), or None. They come after the kept tokens of their view.
        anchors: for each merged token the index of the token whose view and (original) position it takes, shape (c,).
        states: hidden states that the kept tokens go on with, shape (k, d), where others were merged into them.
    """

    keep: Tensor
    merged: Tensor | None = None
    anchors: Tensor | None = None
    states: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A pruning method: a frozen dataclass of options. Bound to a decoder and a budget it is the pruner itself.

    A subclass says its `stage` and what it `needs`, and defines `score`; most need no more. Such a method cuts once,
    before the decoder or, with a `published_layer`, inside it. Options are fields with their published defaults.

    Attributes:
        stage: where the method cuts tokens.
        published_layer: the layer of 32 before which it cuts, for stage "inside, once"; `layer` is then an option.
        name: as registered. budget, num_layers, num_heads: set by `bind`.
    """

    stage: ClassVar[Stage]
    published_layer: ClassVar[int | None] = None

    positions: Positions = option("original", "kept tokens keep their RoPE positions, or are renumbered without gaps.")
    text_scope: TextScope = option("question", "text queries whose attention counts: after the last view, or all.")
    scope: Scope = option("joint", "the views compete for one budget, or each gets an equal share of it.")
    min_tokens_per_view: int = option(0, "tokens every view keeps at every boundary, as far as the budget allows.", 0)
    view_weights: tuple[float, ...] | None = option(None, "factors on views' scores or shares: [2, 1, 1, 1, 1, 1].")
    layer: int | None = option(None, "layer to cut before, from 0; the published one of 32, scaled to the depth.")
    name: str = ""
    budget: Budget = field(default_factory=lambda: Budget.retention(1.0))
    num_layers: int = 32
    num_heads: int = 32
    _solved: dict[object, LayerCounts] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for one in fields(self):
            value, least = getattr(self, one.name), one.metadata.get("least")
            self.require(least is None or value is None or value >= least, one.name, f"{least} or more")
        weights = self.view_weights
        self.require(weights is None or (min(weights, default=0) >= 0 < sum(weights)), "view_weights", "0 or more each")
        self.require(self.layer is None or self.layer >= 1, "layer", "a layer from 1 on")

    def require(self, holds: bool, option: str, rule: str) -> None:
        """Refuse an option's value with a PruningError unless `holds`."""
        if not holds:
            what = f"{brief(getattr(self, option))} is out of range"
            raise PruningError(what, where=f"option {option}", hint=f"give {rule}")

    def bind(self, budget: Budget, num_layers: int, num_heads: int) -> Self:
        """The pruner that `prune` takes: this method, for one decoder and budget.

        Raises:
            PruningError: the decoder has no layer behind another, or not the one asked for.
        """
        if self.published_layer and num_layers == 1:
            hint = "take a method that cuts before the decoder"
            raise PruningError("a decoder of one layer has none to cut before", where=f"method {self.name}", hint=hint)
        bound = replace(self, budget=budget, num_layers=num_layers, num_heads=num_heads)
        bound.require(bound.boundary < num_layers, "layer", f"a layer below {num_layers}")
        return bound

    @property
    def boundary(self) -> int:
        """The layer before which a method that cuts once does so; 0 is before the decoder."""
        published = self.published_layer
        return (self.layer or max(round(self.num_layers * published / 32), 1)) if published else 0

    @property
    def needs(self) -> Set[str]:
        """What `score` and `complexity` read: constants above. The engine computes nothing else."""
        return frozenset()

    @abstractmethod
    def score(self, seen: Observation) -> Tensor:
        """Scores of shape (n,), float32, higher = keep."""

    def merge(self, seen: Observation, order: Tensor, keep: Tensor, count: int) -> Selection:
        """What becomes of the tokens that are not kept; by default they are gone.

        Args:
            seen: the sample before the cut.
            order: all its visual tokens: first those that are kept, then the others by falling score, shape (n,).
            keep: the kept ones, ascending.
            count: new tokens to make, as the schedule says, often 0.
        """
        return Selection(keep)

    @property
    def measured_layer(self) -> int | None:
        """Decoder layer behind which `complexity` is measured; None where counts do not depend on it."""
        return None

    @property
    def max_complexity(self) -> float:
        """Complexities of this size and above give counts that hardly differ."""
        return 0.0

    def complexity(self, seen: Observation) -> Tensor:
        """A number per sample that the schedule depends on, 0-d float32."""
        raise NotImplementedError

    @property
    def fixed(self) -> str:
        """What sets the counts in place of the budget, in words; empty where it is solved for."""
        return ""

    @property
    def own_accounting(self) -> bool:
        """Whether the method publishes another way of counting than tokens entering layers."""
        return False

    def schedule(self, num_visual: int, complexity: float | None) -> tuple[LayerCounts, str]:
        """Counts per layer that spend the budget, and the parameter that was found, in words; by default one cut.

        `complexity` is None before it is measured: counts up to `measured_layer` must not depend on it.
        """
        return self.budget.one_cut(num_visual, self.num_layers, self.boundary)

    def resolve(
        self, num_visual: int, num_layers: int, complexity: float | None = None, text: int | None = None
    ) -> Resolution:
        """The counts as in `plan`, how they were found and, where the budget is missed, the reason."""
        if complexity is not None and not math.isfinite(complexity):
            raise PruningError(f"the complexity is {complexity}", hint="load the model in bfloat16 or float32")
        bound = replace(self, num_layers=num_layers, budget=self.budget.beside(text))
        found = LayerCounts.of_cuts(num_visual, num_layers), "keeps all"
        if self.fixed or bound.budget.mean_tokens(num_visual) < num_visual:
            found = bound.schedule(num_visual, complexity)
        published = self.own_accounting and self.budget.accounting == "published"
        unsolved = "published accounting: not solved for tokens entering layers" if published else ""
        return bound.budget.judged(*found, num_visual, self.fixed or unsolved)

    def plan(
        self, num_visual: int, num_layers: int, complexity: float | None = None, text: int | None = None
    ) -> LayerCounts:
        """Visual tokens per layer; equal arguments are solved once, and a complexity that is not finite is refused.

        Args:
            num_visual, num_layers: visual tokens of the sample, decoder layers.
            complexity: as measured, or None: then counts up to `measured_layer` are already final.
            text: text tokens of the sample, for a FLOPs budget; None takes those of its `DecoderCost`.
        """
        asked = (num_visual, num_layers, complexity, text if self.budget.cost else None)
        if (counts := self._solved.get(asked)) is None:
            if len(self._solved) >= 1024:
                self._solved.clear()
            counts = self._solved[asked] = self.resolve(*asked).plan
        return counts

    def select(self, seen: Observation, keep_total: int, merged: int) -> Selection:
        """The tokens that stay behind a boundary: `keep_total` in all, `merged` of them made anew, as the counts say.

        Raises:
            PruningError: `view_weights` are for another number of views.
        """
        weights = self.view_weights
        if weights is not None and len(weights) != seen.num_views:
            problem = f"{len(weights)} weights for {seen.num_views} views"
            raise PruningError(problem, where="option view_weights", hint="give one per view")
        seen = replace(seen, keep=keep_total - merged)
        order = kept_first(
            self.score(seen),
            seen.views,
            seen.num_views,
            seen.keep,
            per_view=self.scope == "per_view",
            minimum=self.min_tokens_per_view,
            weights=weights,
        )
        return self.merge(seen, order, order[: seen.keep].sort().values, merged)


Pruner = Method  # once bound, in signatures
