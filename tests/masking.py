"""Pruning without removing anything: an unpruned eager model in which dropped tokens are hidden from every query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from senna_prune.engine.decoder import find_decoder
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.base import Selection

STRIDE, BIRTH = 1 << 20, 1 << 12


@torch.no_grad()
def last_logits_masked(
    model: Any, inputs: Mapping[str, Any], layout: TokenLayout, selections: Mapping[int, Selection]
) -> Tensor:
    """Logits behind one prompt, (vocabulary,), after the same selections as a pruned run made with original positions.

    A dropped token keeps its place and position; from the layer that drops it no other token sees it. A merged token is
    written into the place of its anchor, which was dropped, and is read as if it stood behind its view.

    Args:
        model: with eager attention, outside any `prune` context.
        inputs: of one prompt without padding.
        layout: where its visual tokens stand.
        selections: by layer.
    """
    length, slots, handles = layout.length, layout.visual, []
    ranks = torch.arange(length) * STRIDE
    ends = torch.tensor([span.stop - 1 for span in layout.views.values()] or [0]) * STRIDE
    views = torch.zeros(length, dtype=torch.long)
    views[layout.visual] = layout.view_of_visual
    for number, layer in enumerate(find_decoder(model).layers):
        written: list[tuple[Tensor, Tensor]] = []
        if number in selections:
            chosen = selections[number]
            kept = slots[chosen.keep]
            if getattr(chosen, "states", None) is not None:
                written.append((kept, chosen.states))
            if chosen.merged is not None and chosen.anchors is not None:
                anchors = slots[chosen.anchors]
                assert not set(anchors.tolist()) & set(kept.tolist()), "an anchor is kept as well"
                ranks[anchors] = ends[views[anchors]] + number * BIRTH + 1 + torch.arange(len(anchors))
                written.append((anchors, chosen.merged))
                kept = torch.cat([kept, anchors])
            slots = kept[ranks[kept].argsort()]
        visible = torch.ones(length, dtype=torch.bool)
        visible[layout.visual] = False
        visible[slots] = True
        # A hidden token sees itself: a row with nothing to see would be NaN.
        allowed = (visible & (ranks <= ranks[:, None])) | torch.eye(length, dtype=torch.bool)
        mask = torch.zeros(1, 1, length, length).masked_fill(~allowed, torch.finfo(torch.float32).min)

        def enter(module: Any, args: Any, kwargs: Any, mask: Tensor = mask, written: Any = tuple(written)) -> Any:
            hidden = args[0] if args else kwargs.pop("hidden_states")
            for places, states in written:
                hidden = hidden.index_copy(1, places, states[None].to(hidden.dtype))
            return (hidden, *args[1:]), kwargs | {"attention_mask": mask}

        handles.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
    try:
        return model(**inputs).logits[0, -1]
    finally:
        for handle in handles:
            handle.remove()
