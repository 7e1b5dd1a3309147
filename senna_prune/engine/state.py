"""Which tokens of each prompt are left, in what order, and the record of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch._guards import detect_fake_mode

from senna_prune.devices import moved, read_together
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.base import LayerCounts, Selection, VisionScores

# Order keys: a token of the prompt sorts by its index; a merged token sorts directly after its view, later ones last.
_STRIDE = 1 << 20
_BIRTH = 1 << 12
# Rows of `TokenState.visual`.
_SLOT, _KEY, _COLUMN, _ORIGIN, _VIEW, _END = range(6)


@dataclass
class SampleTrace:
    """One sample of one prefill.

    Attributes:
        counts: how many visual tokens enter each layer.
        num_visual: visual tokens of the unpruned prompt.
        num_text: text tokens of the prompt; they enter every layer.
        num_views: camera views.
        complexity: the number that chose the counts, None for static methods.
        origins: per layer, index in the original visual list of each token entering it (negative: merged), (n,).
        views: per layer, view number of each token entering it, (n,).
    """

    counts: LayerCounts
    num_visual: int
    num_text: int
    num_views: int
    complexity: float | None = None
    origins: list[Tensor] = field(default_factory=list)
    views: list[Tensor] = field(default_factory=list)

    @property
    def entering(self) -> tuple[int, ...]:
        """Visual tokens entering each of the L layers, counted on the tensors that entered."""
        return tuple(origin.shape[0] for origin in self.origins)

    @property
    def after(self) -> tuple[int, ...]:
        """Visual tokens after each of the L layers (published accounting)."""
        return (*self.entering[1:], self.counts.tokens[-1])

    def per_view(self) -> list[list[int]]:
        """Visual tokens entering each layer by view: L rows of num_views counts."""
        return [views.bincount(minlength=self.num_views).tolist() for views in self.views]

    def kept(self) -> list[list[int]]:
        """Per layer the original indices of the tokens entering it; merged tokens are left out."""
        return [origin[origin >= 0].tolist() for origin in self.origins]


@dataclass
class PruneTrace:
    """Traces of the latest prefill under a `prune` context, one per sample of the batch.

    Attributes:
        samples: in batch order; empty until a prefill has run.
        cache_lengths: padding aside, tokens of each layer's cache right after prefill, (L, batch).
    """

    samples: list[SampleTrace] = field(default_factory=list)
    cache_lengths: list[list[int]] = field(default_factory=list)

    def to_host(self, others: Sequence[Tensor] = ()) -> list[Tensor]:
        """Bring the samples to the host, and `others`, which are returned, in the same copy."""
        kept = {id(one): one for sample in self.samples for one in (*sample.origins, *sample.views)}
        found = read_together([*others, *kept.values()])
        on_host = dict(zip(kept, found[len(others) :], strict=True))
        for sample in self.samples:
            for layers in (sample.origins, sample.views):
                layers[:] = [on_host[id(one)] for one in layers]
        return found[: len(others)]


@dataclass(frozen=True)
class TokenState:
    """One sample's sequence at one boundary. Lengths are host numbers, everything else stays on the device.

    Attributes:
        text_slots: where the text tokens stand in the current sequence, ascending.
        text_keys, text_columns: their order keys, and their columns in the batch that entered the decoder, which say
            what positions they have.
        visual: of the visual tokens, in one table that one gather moves, (6, n): place in the current sequence
            (ascending), order key, column in the batch that entered (a merged token has its anchor's), index in the
            original visual list (negative: merged), view, and order key of the view's last token.
        num_question: how many tokens at the end of the prompt follow the last view.
        num_answer: how many tokens at the end of the sequence are no prompt.
    """

    text_slots: Tensor
    text_keys: Tensor
    text_columns: Tensor
    visual: Tensor
    num_views: int
    num_question: int
    num_answer: int = 0

    @classmethod
    def start(cls, layout: TokenLayout, column: int, device: torch.device) -> TokenState:
        """The unpruned sequence of `layout`, which begins at `column` of its batch."""
        start = _started.__wrapped__ if detect_fake_mode() else _started
        return start(layout.length, tuple(layout.views.values()), layout.answer, column, device)

    def to(self, device: torch.device) -> TokenState:
        """The same on another device; itself where it is there already."""
        if self.visual.device == device:
            return self
        tensors: dict[str, Any] = {name: x.to(device) for name, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, **tensors)

    @property
    def visual_slots(self) -> Tensor:
        """Where the visual tokens stand in the current sequence, ascending, shape (n,)."""
        return self.visual[_SLOT]

    @property
    def origin(self) -> Tensor:
        """Index in the original visual list (negative: merged) per visual token, shape (n,)."""
        return self.visual[_ORIGIN]

    @property
    def views(self) -> Tensor:
        """View number per visual token, shape (n,)."""
        return self.visual[_VIEW]

    @property
    def num_visual(self) -> int:
        return self.visual.shape[1]

    @property
    def length(self) -> int:
        return self.text_slots.shape[0] + self.num_visual

    @property
    def num_text(self) -> int:
        """Text tokens of the prompt."""
        return self.text_slots.shape[0] - self.num_answer

    @property
    def prompt_length(self) -> int:
        """Tokens that are left of the prompt; they come first."""
        return self.length - self.num_answer

    def columns(self) -> Tensor:
        """Column of every current token in the batch that entered the decoder, in sequence order, shape (length,)."""
        out = self.text_columns.new_empty(self.length)
        out[self.text_slots] = self.text_columns
        out[self.visual_slots] = self.visual[_COLUMN]
        return out

    def apply(self, selection: Selection, hidden: Tensor, layer: int) -> tuple[TokenState, Tensor]:
        """The state behind a selection made at boundary `layer`, and its hidden states, shape (new length, d).

        `hidden` are the sample's hidden states without padding, shape (length, d).
        """
        num_kept, num_text = selection.keep.shape[0], self.text_slots.shape[0]
        if selection.anchors is not None:
            # A merged token starts as a copy of its anchor, hidden states included, and is overwritten below: cheaper
            # than copying all of `hidden` to append to it.
            visual = self.visual.index_select(1, torch.cat([selection.keep, selection.anchors]))
            young, first = visual[:, num_kept:], layer * _BIRTH + 1
            births = torch.arange(first, first + young.shape[1], device=hidden.device) if young.shape[1] > 1 else first
            torch.add(young[_END], births, out=young[_KEY])
            young[_ORIGIN].fill_(-1 - layer)
        else:
            visual = self.visual.index_select(1, selection.keep)
        order = torch.cat([self.text_keys, visual[_KEY]]).argsort()
        slots = order.argsort()
        new_hidden = hidden.index_select(0, torch.cat([self.text_slots, visual[_SLOT]])[order])
        visual[_SLOT] = slots[num_text:]
        if selection.states is not None:
            new_hidden.index_copy_(0, slots[num_text : num_text + num_kept], selection.states.to(hidden.dtype))
        if selection.merged is not None and selection.anchors is not None:
            new_hidden.index_copy_(0, slots[num_text + num_kept :], selection.merged.to(hidden.dtype))
            visual = visual.index_select(1, visual[_SLOT].argsort())
        return replace(self, text_slots=slots[:num_text], visual=visual), new_hidden


@dataclass
class Sample:
    """One prompt of the batch.

    Attributes:
        state: its tokens that are left.
        start: column at which it begins in the batch at hand.
        trace: its record; the counts in it decide every cut.
        vision: what the vision tower saw.
        embeddings: decoder inputs of the text queries and of the visual tokens, if asked for.
        rows: attention rows that complexity has read and the scorer will read again.
    """

    state: TokenState
    start: int
    trace: SampleTrace
    vision: VisionScores | None
    embeddings: tuple[Tensor, Tensor] | None = None
    rows: Tensor | None = None
    _recorded: TokenState | None = None

    @property
    def span(self) -> tuple[int, int]:
        """Its first and last + 1 column in the batch at hand."""
        return self.start, self.start + self.state.length

    @property
    def prompt(self) -> slice:
        """The columns of them that hold its prompt."""
        return slice(self.start, self.start + self.state.prompt_length)

    def cut_at(self, boundary: int) -> bool:
        """Whether tokens leave or are merged at `boundary`."""
        counts = self.trace.counts
        return counts.tokens[boundary] != self.state.num_visual or bool(counts.merged[boundary])

    def record(self) -> None:
        """Note in the trace what enters the next layer; layers without a cut between them share their record."""
        new, self._recorded = self._recorded is not self.state, self.state
        for known, entering in (self.trace.origins, self.state.origin), (self.trace.views, self.state.views):
            known.append(entering if new else known[-1])

    def move(self, device: torch.device) -> None:
        """Follow the hidden states to the device of the next layers."""
        self.state = self.state.to(device)
        if self.vision is not None:
            keys = self.vision.keys
            self.vision = VisionScores(moved(self.vision.score, device), None if keys is None else moved(keys, device))
        if self.embeddings is not None:
            self.embeddings = (moved(self.embeddings[0], device), moved(self.embeddings[1], device))


@lru_cache(maxsize=64)
def _started(length: int, spans: tuple[range, ...], answer: int, column: int, device: torch.device) -> TokenState:
    """See `TokenState.start`: prompts of the same layout share what is copied to the device, and write none of it."""
    layout = TokenLayout(length, {str(number): span for number, span in enumerate(spans)}, answer)
    places, origin, views = layout.visual, torch.arange(layout.num_visual), layout.view_of_visual
    ends = torch.tensor([span.stop - 1 for span in spans], dtype=torch.long)
    with torch.inference_mode(False):
        visual = torch.stack([places, places * _STRIDE, places + column, origin, views, ends[views] * _STRIDE])
        text = torch.stack([layout.text, layout.text * _STRIDE, layout.text + column])
        slots, keys, columns = moved(text, device)
        counts = (len(spans), len(layout.question), answer)
        return TokenState(slots, keys, columns, moved(visual, device), *counts)


def pad_left(rows: Sequence[Tensor]) -> Tensor:
    """Stack rows of shape (n_i, ...) into (batch, max n, ...); padding (zeros) goes to the left, where it stays out of
    the way of `generate`, which reads the last column."""
    width = max(row.shape[0] for row in rows)
    if len(rows) == 1:
        return rows[0].unsqueeze(0)
    batch = rows[0].new_zeros((len(rows), width, *rows[0].shape[1:]))
    for i, row in enumerate(rows):
        batch[i, width - row.shape[0] :] = row
    return batch
