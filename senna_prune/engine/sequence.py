"""Which tokens of one sample are still in the sequence, and in what order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch._guards import detect_fake_mode

from senna_prune.devices import moved
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.base import Selection

# Order keys: a token of the prompt sorts by its index; a merged token sorts directly after its view, later ones last.
_STRIDE = 1 << 20
_BIRTH = 1 << 12


# Rows of `TokenState.visual`.
_SLOT, _KEY, _COLUMN, _ORIGIN, _VIEW, _END = range(6)


@dataclass(frozen=True)
class TokenState:
    """One sample's sequence at one boundary. Lengths are host numbers, everything else stays on the device.

    Attributes:
        text_slots: where the text tokens stand in the current sequence, ascending.
        text_keys, text_columns: their order keys, and their columns in the batch that entered the decoder, which say
            what positions they have.
        visual: in one table, so that one gather moves all of it, shape (6, n): where the visual tokens stand in the
            current sequence (ascending), their order keys, their columns in the batch that entered the decoder (a
            merged token has its anchor's), their index in the original visual list (negative: merged), their view, and
            the order key of its last token in the unpruned sequence.
        num_views: number of views.
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
        """Carry out a selection made at boundary `layer`.

        Args:
            selection: indices into the current visual list, new hidden states of theirs, and merged tokens.
            hidden: the sample's hidden states without padding, shape (length, d).

        Returns:
            The new state and the new hidden states, shape (new length, d).
        """
        num_kept, num_text = selection.keep.shape[0], self.text_slots.shape[0]
        merges = selection.merged is not None and selection.anchors is not None
        if merges:
            assert selection.anchors is not None
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
        if merges:
            assert selection.merged is not None
            new_hidden.index_copy_(0, slots[num_text + num_kept :], selection.merged.to(hidden.dtype))
            visual = visual.index_select(1, visual[_SLOT].argsort())
        return replace(self, text_slots=slots[:num_text], visual=visual), new_hidden


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
