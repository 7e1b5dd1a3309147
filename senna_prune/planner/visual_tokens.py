"""The visual tokens a method keeps before the decoder, for an engine that takes prompt embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from senna_prune.engine.decoder import find_decoder
from senna_prune.engine.prefill import PromptPass
from senna_prune.errors import PruningError
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning import Pruner
from senna_prune.pruning.base import VisionScores


@dataclass(frozen=True)
class VisualTokens:
    """One prompt whose visual tokens are pruned already.

    Attributes:
        prompt: embeddings of the whole prompt, text included, shape (length, D).
        prompt_positions: position of each in the decoder, shape (length,): 0, 1, 2, ... with positions "repacked", as
            engines number prompt embeddings; with "original" those in the unpruned prompt.
        slots: where the n kept visual tokens stand in the prompt, ascending, shape (n,).
        cameras: nuScenes channel that each kept token comes from.
    """

    prompt: Tensor
    prompt_positions: Tensor
    slots: Tensor
    cameras: tuple[str, ...]

    @property
    def embeddings(self) -> Tensor:
        """Of the kept visual tokens, shape (n, D)."""
        return self.prompt[self.slots]

    @property
    def positions(self) -> Tensor:
        """Of the kept visual tokens, shape (n,)."""
        return self.prompt_positions[self.slots]


@torch.no_grad()
def cut_before_decoder(
    model: SennaForConditionalGeneration,
    pruner: Pruner,
    embeds: Tensor,
    layout: TokenLayout,
    vision: VisionScores | None,
    cameras: Sequence[str],
) -> VisualTokens:
    """Make a method's cut without running the decoder.

    Args:
        model: whose prompt it is.
        pruner: a method that acts before the decoder.
        embeds: the unpruned prompt, shape (S, D).
        layout: where its visual tokens stand.
        vision: evidence of the vision tower, if the method needs it.
        cameras: channel of each view.

    Raises:
        PruningError: the method cuts inside the decoder, or gets no evidence that it needs.
    """
    decoder = find_decoder(model)
    counts = pruner.plan(layout.num_visual, decoder.num_layers, text=layout.length - layout.num_visual)
    if len(set(counts.tokens[:-1])) > 1:
        raise PruningError(
            f"method {pruner.name!r} cuts tokens inside the decoder: no set of tokens stands for all layers",
            hint="take one that acts before the decoder, see --methods",
        )
    running = PromptPass(decoder, pruner, [layout], [0], None if vision is None else [vision], embeds[None], None)
    tables = decoder.rotary(embeds, torch.arange(layout.length, device=embeds.device)[None])
    (prompt,), _ = running.enter(0, embeds[None], {"position_embeddings": tables})
    state = running.samples[0].state
    repacked = pruner.positions == "repacked"
    positions = torch.arange(state.length, device=embeds.device) if repacked else state.columns()
    names = tuple(cameras[view] for view in state.views.tolist())
    return VisualTokens(prompt, positions, state.visual_slots, names)
