"""Gathers what a policy has declared it needs, and computes nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from senna_prune.engine.decoder import Decoder
from senna_prune.engine.probe import Probe, take
from senna_prune.engine.sequence import TokenState
from senna_prune.errors import PruningError
from senna_prune.pruning.interface import (
    EMBEDDINGS,
    LAST_ATTENTION,
    NEXT_ATTENTION,
    ROPE_PRODUCT,
    TEXT_ATTENTION,
    VISION,
    LayerPlan,
    Observation,
    VisionEvidence,
)
from senna_prune.pruning.pruner import Pruner


class Observer:
    """Builds one sample's `Observation` at a boundary."""

    def __init__(self, decoder: Decoder, pruner: Pruner) -> None:
        self.decoder, self.pruner = decoder, pruner
        self.probe = Probe(decoder)
        self.release()

    def release(self) -> None:
        self.probe.release()
        self.embeddings: list[tuple[Tensor, Tensor]] = []
        self.vision: Sequence[VisionEvidence] | None = None
        self.table: tuple[Tensor, Tensor] | None = None
        self.places: Tensor | None = None
        self.shared: dict[int, Tensor] = {}

    def begin(
        self,
        embeds: Tensor,
        states: Sequence[TokenState],
        starts: Sequence[int],
        vision: Sequence[VisionEvidence] | None,
    ) -> None:
        """A prefill begins on `embeds`, shape (batch, width, d)."""
        self.release()
        asks_text = {TEXT_ATTENTION, EMBEDDINGS} & self.pruner.needs and self.pruner.text_scope == "question"
        if asks_text and any(state.num_visual and not state.num_question for state in states):
            raise PruningError("no text follows the last view", where="text_scope", hint="use text_scope all_text")
        if VISION in self.pruner.needs and vision is None and any(state.num_visual for state in states):
            raise PruningError(
                f"method {self.pruner.name!r} needs the vision tower's attention and got none",
                hint="pass pixel_values to the model, or vision= to prune()",
            )
        self.vision = vision
        self.places = torch.arange(max(state.length for state in states), device=embeds.device)
        self.table = self.decoder.rotary(embeds, self.places[None])
        if EMBEDDINGS in self.pruner.needs:
            for i, (state, start) in enumerate(zip(states, starts, strict=True)):
                own = embeds[i, start : start + state.length]
                self.embeddings.append((take(own, self._queries(state)), own[state.visual_slots]))

    def rotary_tables(self, positions: Tensor | int) -> tuple[Tensor, Tensor]:
        """Cosine and sine at prompt positions (batch, n), or at the first n for every sample; each (batch or 1, n,
        head_dim)."""
        assert self.table is not None
        cos, sin = self.table
        if isinstance(positions, int):
            return cos[:, :positions], sin[:, :positions]
        return cos[0][positions], sin[0][positions]

    def watch(self, layer: int, plans: Sequence[LayerPlan], tables: tuple[Tensor, Tensor], cache: Any) -> None:
        """Layer `layer` is about to run: catch its projections if boundary `layer + 1` will ask for attention."""
        complexity, boundary, self.shared = self.pruner.complexity, layer + 1, {}
        measured = complexity is not None and complexity.layer == layer and TEXT_ATTENTION in complexity.needs
        cut = boundary < self.decoder.num_layers and any(
            plan.tokens[boundary] < plan.tokens[layer] or plan.merged[boundary] for plan in plans
        )
        wanted = {TEXT_ATTENTION, LAST_ATTENTION} & self.pruner.needs
        if measured or (cut and wanted):
            self.probe.arm(layer, *tables, cache)
        else:
            self.probe.release()

    def observe(
        self, sample: int, layer: int, state: TokenState, start: int, hidden: Tensor, *, measuring: bool = False
    ) -> Observation:
        """What the policy sees of one sample at boundary `layer`.

        Args:
            hidden: the sample's hidden states without padding, (length, d).
            start: column at which the sample begins in the batch that the previous layer ran on.
            measuring: the complexity asks, not the scorer.
        """
        complexity, queries = self.pruner.complexity, self._queries(state)
        needs = complexity.needs if measuring and complexity is not None else self.pruner.scorer.needs
        span, rows = slice(start, start + state.length), None
        if layer > 0 and TEXT_ATTENTION in needs:
            rows = self.shared.pop(sample, None)
            if rows is None:
                rows = self.probe.rows(sample, span, queries)
            if measuring and TEXT_ATTENTION in self.pruner.scorer.needs:
                self.shared[sample] = rows
        elif NEXT_ATTENTION in needs:
            rows = self.probe.next_rows(layer, hidden, *self._own_tables(state))
        elif layer > 0 and LAST_ATTENTION in needs:
            rows = self.probe.rows(sample, span, 1)
        text_embeddings, visual_embeddings = self.embeddings[sample] if EMBEDDINGS in needs else (None, None)
        return Observation(
            layer=layer,
            num_layers=self.decoder.num_layers,
            origin=state.origin,
            views=state.views,
            num_views=state.view_ends.shape[0],
            slots=state.visual_slots,
            sequence=hidden,
            rows=rows,
            vision=self.vision[sample] if self.vision is not None else None,
            text_embeddings=text_embeddings,
            visual_embeddings=visual_embeddings,
            rope_product=self._rope_product(state, queries) if ROPE_PRODUCT in needs else None,
        )

    def _queries(self, state: TokenState) -> Tensor | int:
        """Places of the text queries in the sample's sequence, or how many of its last tokens they are."""
        return state.text_slots if self.pruner.text_scope == "all_text" else state.num_question

    def _own_tables(self, state: TokenState) -> tuple[Tensor, Tensor]:
        """Cosine and sine of one sample, each (length, head_dim)."""
        repacked = self.pruner.positions == "repacked"
        cos, sin = self.rotary_tables(state.length if repacked else state.positions()[None])
        return cos[0], sin[0]

    def _rope_product(self, state: TokenState, queries: Tensor | int) -> Tensor:
        """<R_a 1, R_b 1> for query position a and visual position b, float32, (queries, n)."""
        cos, sin = self._own_tables(state)
        half = cos.shape[-1] // 2
        ones = (cos + torch.cat([-sin[:, :half], sin[:, half:]], dim=-1)).float()
        return take(ones, queries) @ ones[state.visual_slots].T
