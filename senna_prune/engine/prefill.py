"""One pass of a batch of prompts through the decoder: measures complexity, decides and carries out every cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from senna_prune.devices import constant, moved
from senna_prune.engine.decode import CacheShape, PromptCache, mark
from senna_prune.engine.decoder import Capture, Decoder, attention_mask, next_rows, not_finite, take
from senna_prune.engine.state import Sample, SampleTrace, TokenState, pad_left
from senna_prune.errors import PruningError
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning import base
from senna_prune.pruning.base import Observation, Pruner, VisionScores


class PromptPass:
    """Made when prompts enter the decoder, dropped at the end; decides and carries out every boundary.

    Args:
        decoder, pruner: what runs, and the policy.
        layouts: one per prompt.
        starts: columns at which the prompts begin in the padded batch.
        vision: vision scores per prompt, or None.
        embeds: decoder inputs, (batch, width, d).
        position_ids: as the decoder gets them: None, (batch or 1, width) or, under M-RoPE, (3 or 4, batch, width).
        first_cut: first layer before which the host lets tokens be removed.

    Raises:
        PruningError: the policy needs vision scores or text that is not there.
    """

    def __init__(
        self,
        decoder: Decoder,
        pruner: Pruner,
        layouts: Sequence[TokenLayout],
        starts: Sequence[int],
        vision: Sequence[VisionScores] | None,
        embeds: Tensor,
        position_ids: Tensor | None,
        first_cut: int = 0,
    ) -> None:
        self.decoder, self.pruner, self.needs, self.device = decoder, pruner, pruner.needs, embeds.device
        self.repacked = pruner.positions == "repacked"
        self.samples = list[Sample]()
        for i, (layout, start) in enumerate(zip(layouts, starts, strict=True)):
            state = TokenState.start(layout, start, self.device)
            counts = pruner.plan(layout.num_visual, decoder.num_layers, text=state.num_text)
            if first_cut and counts.tokens[first_cut - 1] < layout.num_visual:
                raise PruningError(
                    f"method {pruner.name!r} cuts before layer {first_cut}, the first that this model allows",
                    hint="choose a method or an option that cuts later",
                )
            trace = SampleTrace(counts, layout.num_visual, state.text_slots.shape[0], len(layout.views))
            self.samples.append(Sample(state, start, trace, vision[i] if vision else None))
        self._require_inputs()
        for sample, row in zip(self.samples, embeds, strict=True):
            sample.move(self.device)
            if base.EMBEDDINGS in self.needs:
                own = row[sample.prompt]
                sample.embeddings = (take(own, self._queries(sample.state)), own[sample.state.visual_slots])
        ends = constant(tuple(sample.span[1] for sample in self.samples), torch.long, self.device)
        if position_ids is not None:
            # A prompt ends in text, whose positions under M-RoPE are the same on all three axes.
            flat = position_ids if position_ids.ndim == 2 else position_ids[-1]
            ends = flat.expand(len(layouts), -1).gather(1, ends[:, None] - 1).squeeze(1) + 1
        self.next_positions, self.width = ends, embeds.shape[1]
        self.measured_at = None if pruner.measured_layer is None else pruner.measured_layer + 1
        self.measured = False
        self.places = torch.arange(self.width, device=self.device)
        self.tables: tuple[Tensor, Tensor] | None = None
        self.overrides: dict[str, Any] = {}
        self.shapes: list[CacheShape] = []
        self.cache: Any = None
        self.capture: Capture | None = None
        self.biases: dict[Any, Tensor] = {}

    def _require_inputs(self) -> None:
        asks_text = {base.TEXT_ATTENTION, base.EMBEDDINGS} & self.needs and self.pruner.text_scope == "question"
        for sample in self.samples:
            if asks_text and sample.state.num_visual and not sample.state.num_question:
                raise PruningError("no text follows the last view", where="text_scope", hint="use text_scope all_text")
            if base.VISION in self.needs and sample.state.num_visual and sample.vision is None:
                raise PruningError(
                    f"method {self.pruner.name!r} needs the vision tower's attention and got none",
                    hint="pass pixel_values to the model, or vision= to prune()",
                )

    def finish(self, context: str) -> PromptCache:
        """What the tokens that follow need to know; the cache that was filled carries it.

        Raises:
            PruningError: not all layers told that they were entered.
        """
        if len(self.shapes) != self.decoder.num_layers:
            raise PruningError(
                f"{len(self.shapes)} of {self.decoder.num_layers} decoder layers ran as layers that can be pruned",
                hint="do not compile, replace or skip layers (assistant_early_exit) inside a prune context",
            )
        prompt = PromptCache(context, tuple(self.shapes), self.width, self.next_positions, self.repacked)
        if self.cache is not None:
            mark(self.cache, prompt)
        return prompt

    def enter(self, layer: int, hidden: Tensor, kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Decide and carry out boundary `layer` on `hidden`, shape (batch, width, d).

        Returns:
            The hidden states that enter the layer, and its other arguments.
        """
        if self.tables is None:
            own = kwargs["position_embeddings"]
            self.tables = self.decoder.rotary(hidden, self.places[None]) if self.repacked else own
        if hidden.device != self.device:
            self.device = hidden.device
            self.places = moved(self.places, self.device)
            for sample in self.samples:
                sample.move(self.device)
        if layer == self.measured_at and not self.measured:
            self.set_schedule(self.measure(hidden).tolist(), hidden)
        hidden = self._cut(layer, hidden)
        for sample in self.samples:
            sample.record()
        kwargs = kwargs | self.overrides
        self.cache = kwargs.get("past_key_values")
        spans = tuple(sample.span for sample in self.samples)
        self.shapes.append(CacheShape(spans, hidden.shape[1], bool(self.overrides)))
        self.capture_projections(layer, kwargs["position_embeddings"])
        return hidden, kwargs

    def _cut(self, layer: int, hidden: Tensor) -> Tensor:
        cut = [sample.cut_at(layer) for sample in self.samples]
        if not any(cut):
            return hidden
        rows = []
        for i, sample in enumerate(self.samples):
            own = hidden[i, slice(*sample.span)]
            if cut[i]:
                count, merged = sample.trace.counts.tokens[layer], sample.trace.counts.merged[layer]
                selection = self.pruner.select(self._observe(i, layer, own), count, merged)
                sample.state, own = sample.state.apply(selection, own, layer)
                if sample.state.num_visual != count:
                    raise PruningError(
                        f"method {self.pruner.name!r} kept {sample.state.num_visual} tokens at layer {layer}, "
                        f"its schedule says {count}"
                    )
            rows.append(own)
        hidden = pad_left(rows)
        for sample in self.samples:
            sample.start = hidden.shape[1] - sample.state.length
        self.overrides = self._write_overrides(hidden)
        return hidden

    def add(self, hidden: Tensor, places: Tensor, features: Tensor) -> Tensor:
        """`hidden` (batch, width, d) with the features (n, d) that belong to the n `places` of the unpruned batch,
        (batch, width); a merged token gets those of its anchor."""
        whole = hidden.new_zeros(*places.shape, hidden.shape[2])
        whole.masked_scatter_(moved(places, hidden.device)[..., None], features.to(hidden))
        if self.overrides:
            whole = pad_left([row[sample.state.columns()] for row, sample in zip(whole, self.samples, strict=True)])
        return hidden + whole

    def measure(self, hidden: Tensor) -> Tensor:
        """Every sample's complexity at boundary `measured_at`, shape (batch,). Reading it is the one host sync of a
        prefill."""
        assert self.measured_at is not None
        measured = []
        for i, sample in enumerate(self.samples):
            seen = self._observe(i, self.measured_at, hidden[i, slice(*sample.span)])
            measured.append(self.pruner.complexity(seen).float())
            sample.rows = seen.rows if base.TEXT_ATTENTION in self.needs else None
        return torch.stack(measured)

    def set_schedule(self, complexities: Sequence[float], hidden: Tensor) -> None:
        """Every sample's counts follow from its complexity.

        Raises:
            InputError: a complexity is not finite: the model's numbers, of which `hidden` is one, are not.
        """
        self.measured = True
        for sample, value in zip(self.samples, complexities, strict=True):
            if not math.isfinite(value):
                raise not_finite(hidden)
            trace, text = sample.trace, sample.state.num_text
            trace.complexity = value
            trace.counts = self.pruner.plan(trace.num_visual, self.decoder.num_layers, value, text)

    def capture_projections(self, layer: int, tables: tuple[Tensor, Tensor]) -> None:
        """Layer `layer` is about to run: catch its projections if boundary `layer + 1` will ask for attention.

        Where complexity is measured at that boundary, the counts known so far do not tell whether it cuts.
        """
        boundary, self.capture = layer + 1, None
        reads = {base.TEXT_ATTENTION, base.LAST_ATTENTION, base.KEYS} & self.needs
        if not reads or boundary == self.decoder.num_layers:
            return
        if boundary == self.measured_at or any(sample.cut_at(boundary) for sample in self.samples):
            self.capture = Capture(self.decoder, layer, tables, self.cache, self.biases)

    def _observe(self, number: int, layer: int, hidden: Tensor) -> Observation:
        """What the pruner sees of one sample at boundary `layer`, of whose hidden states `hidden`, (length, d), those
        of an answer are not looked at."""
        sample, needs, rows, keys = self.samples[number], self.needs, None, None
        state, queries = sample.state, self._queries(sample.state)
        hidden = hidden[: state.prompt_length]
        if layer > 0 and {base.TEXT_ATTENTION, base.LAST_ATTENTION, base.KEYS} & needs:
            assert self.capture is not None
            rows, sample.rows = sample.rows, None
            if rows is None and {base.TEXT_ATTENTION, base.LAST_ATTENTION} & needs:
                rows = self.capture.rows(number, sample.prompt, queries if base.TEXT_ATTENTION in needs else 1)
            keys = self.capture.keys(number, sample.prompt) if base.KEYS in needs else None
        if base.NEXT_ATTENTION in needs:
            rows = next_rows(self.decoder, layer, hidden, *self._own_tables(number))
        text, visual = sample.embeddings or (None, None)
        return Observation(
            layer=layer,
            num_layers=self.decoder.num_layers,
            origin=state.origin,
            views=state.views,
            num_views=state.num_views,
            slots=state.visual_slots,
            sequence=hidden,
            queries=queries,
            rows=rows,
            sequence_keys=keys,
            normed=self.decoder.final_norm(hidden) if base.NORMED in needs else None,
            vision=sample.vision,
            text_embeddings=text,
            visual_embeddings=visual,
            rope_product=self._rope_product(number, queries) if base.ROPE_PRODUCT in needs else None,
        )

    def _queries(self, state: TokenState) -> Tensor | int:
        """Places of the text queries in the sample's prompt, or how many of its last tokens they are."""
        if self.pruner.text_scope == "question":
            return state.num_question
        return state.text_slots[: state.num_text]

    def _columns(self, state: TokenState) -> Tensor:
        """Where the rotary tables hold the positions of a sample's tokens, (length,)."""
        return self.places[: state.length] if self.repacked else state.columns()

    def _tables(self) -> tuple[Tensor, Tensor]:
        """Cosine and sine, each (batch or 1, width, head_dim): the model's own, or of renumbered positions."""
        assert self.tables is not None
        cos, sin = self.tables = (moved(self.tables[0], self.device), moved(self.tables[1], self.device))
        return cos, sin

    def _own_tables(self, number: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine of one sample's prompt, each (length, head_dim)."""
        (cos, sin), state = self._tables(), self.samples[number].state
        row, columns = number if cos.shape[0] > 1 else 0, self._columns(state)[: state.prompt_length]
        return cos[row].index_select(0, columns), sin[row].index_select(0, columns)

    def _rope_product(self, number: int, queries: Tensor | int) -> Tensor:
        """<R_a 1, R_b 1> for query position a and visual position b, float32, (queries, n)."""
        cos, sin = self._own_tables(number)
        half = cos.shape[-1] // 2
        ones = (cos + torch.cat([-sin[:, :half], sin[:, half:]], dim=-1)).float()
        return take(ones, queries) @ ones[self.samples[number].state.visual_slots].T

    def _write_overrides(self, hidden: Tensor) -> dict[str, Any]:
        """Mask and rotary tables for a batch that has been cut at least once."""
        width, (cos, sin) = hidden.shape[1], self._tables()
        if self.repacked and all(sample.start == 0 for sample in self.samples):
            tables = (cos[:, :width], sin[:, :width])
        else:
            columns = pad_left([self._columns(sample.state) for sample in self.samples])
            rows = 0 if len(cos) == 1 else torch.arange(len(columns), device=self.device)[:, None]
            tables = (cos[rows, columns], sin[rows, columns])
        form: dict[str, Any] = {"dtype": hidden.dtype, "device": hidden.device}
        spans = [(sample.start, width) for sample in self.samples]
        return {
            "attention_mask": attention_mask(spans, width, width, implementation=self.decoder.attention, **form),
            "position_embeddings": tables,
            # Rotation is done by the tables above; flash attention reads gaps in `position_ids` as packed sequences.
            "position_ids": self.places[None, :width],
        }
