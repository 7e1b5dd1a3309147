"""Which tokens of one sample are still in the sequence, and in what order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.interface import Selection

# Order keys: a token of the prompt sorts by its index; a merged token sorts right behind its view, younger ones last.
_STRIDE = 1 << 20
_BIRTH = 1 << 12


@dataclass(frozen=True)
class TokenState:
    """One sample's sequence at one boundary. Lengths are host numbers, everything else stays on the device.

    Attributes:
        text_slots, visual_slots: where text and visual tokens stand in the current sequence, ascending.
        text_keys, visual_keys: order keys.
        text_positions, visual_positions: positions in the unpruned sequence (a merged token has its anchor's).
        origin, views: index in the original visual list (negative: merged) and view number per visual token.
        view_ends: for each view the index of its last token in the unpruned sequence, shape (num_views,).
        num_question: how many tokens at the end of the sequence follow the last view.
        start_length: length of the unpruned sequence.
    """

    text_slots: Tensor
    text_keys: Tensor
    text_positions: Tensor
    visual_slots: Tensor
    visual_keys: Tensor
    visual_positions: Tensor
    origin: Tensor
    views: Tensor
    view_ends: Tensor
    num_question: int
    start_length: int

    @classmethod
    def start(cls, layout: TokenLayout, device: torch.device) -> TokenState:
        """The unpruned sequence of `layout`."""
        text, visual = layout.text.to(device, non_blocking=True), layout.visual.to(device, non_blocking=True)
        ends = [span.stop - 1 for span in layout.views.values()]
        return cls(
            text_slots=text,
            text_keys=text * _STRIDE,
            text_positions=text,
            visual_slots=visual,
            visual_keys=visual * _STRIDE,
            visual_positions=visual,
            origin=torch.arange(layout.num_visual, device=device),
            views=layout.view_of_visual.to(device, non_blocking=True),
            view_ends=torch.tensor(ends, dtype=torch.long).to(device, non_blocking=True),
            num_question=len(layout.question),
            start_length=layout.length,
        )

    @property
    def num_visual(self) -> int:
        return self.visual_slots.shape[0]

    @property
    def length(self) -> int:
        return self.text_slots.shape[0] + self.visual_slots.shape[0]

    def positions(self) -> Tensor:
        """Position in the unpruned sequence of every current token, in sequence order, shape (length,)."""
        out = self.text_positions.new_empty(self.length)
        out[self.text_slots] = self.text_positions
        out[self.visual_slots] = self.visual_positions
        return out

    def apply(self, selection: Selection, hidden: Tensor, layer: int) -> tuple[TokenState, Tensor]:
        """Carry out a selection made at boundary `layer`.

        Args:
            selection: indices into the current visual list, and merged tokens.
            hidden: the sample's hidden states without padding, shape (length, d).

        Returns:
            The new state and the new hidden states, shape (new length, d).
        """
        keep, device = selection.keep, hidden.device
        num_text, young_places = self.text_slots.shape[0], None
        kept_slots = self.visual_slots[keep]
        keys, positions = self.visual_keys[keep], self.visual_positions[keep]
        origin, views = self.origin[keep], self.views[keep]
        if selection.merged is not None and selection.anchors is not None:
            count, anchors = selection.merged.shape[0], selection.anchors
            young = torch.arange(count, device=device)
            # Gathered as its anchor first and overwritten below: cheaper than copying all of `hidden` to append to it.
            kept_slots = torch.cat([kept_slots, self.visual_slots[anchors]])
            home = self.views[anchors]
            keys = torch.cat([keys, self.view_ends[home] * _STRIDE + layer * _BIRTH + young + 1])
            positions = torch.cat([positions, self.visual_positions[anchors]])
            origin = torch.cat([origin, torch.full_like(young, -1 - layer)])
            views = torch.cat([views, home])
            order = keys.argsort()
            kept_slots, keys, positions = kept_slots[order], keys[order], positions[order]
            origin, views = origin[order], views[order]
            young_places = _inverse(order)[keep.shape[0] :]
        order = torch.cat([self.text_keys, keys]).argsort()
        new_hidden = hidden.index_select(0, torch.cat([self.text_slots, kept_slots])[order])
        slots = _inverse(order)
        if selection.merged is not None and young_places is not None:
            new_hidden.index_copy_(0, slots[num_text:][young_places], selection.merged.to(hidden.dtype))
        state = replace(
            self,
            text_slots=slots[:num_text],
            visual_slots=slots[num_text:],
            visual_keys=keys,
            visual_positions=positions,
            origin=origin,
            views=views,
        )
        return state, new_hidden


def _inverse(order: Tensor) -> Tensor:
    """The inverse of a permutation, shape (n,)."""
    return torch.empty_like(order).scatter_(0, order, torch.arange(order.shape[0], device=order.device))
