"""Where an unpruned model's attention lies among the visual tokens, layer by layer: what attention-ranked pruning sees.

Rows of the last prompt token and of the question are computed beside whatever attention kernel runs (`engine.decoder`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from senna_prune.engine.decoder import Capture, before_rotation, find_decoder
from senna_prune.evaluation.audit.survival import Floats, Mask, View, patch_grid
from senna_prune.hosts.host import Host, find_host, unwrapped
from senna_prune.model.token_layout import TokenLayout

QUERIES = ("last", "question")
"""Whose attention: the last prompt token's, or the mean over the text that follows the last image."""


@dataclass(frozen=True)
class PromptAttention:
    """One prompt of an unpruned model of L layers and n visual tokens.

    Attributes:
        layout: where they stand.
        share: of each layer's attention that lies on visual tokens, by kind of query, shape (2, L).
        place: where on them, rows summing to 1, shape (2, L, n).
        rank: effective rank of the visual tokens' hidden states that enter each layer, shape (L,).
    """

    layout: TokenLayout
    share: Floats
    place: Floats
    rank: Floats

    @property
    def effective(self) -> Floats:
        """Number of visual tokens that the attention is on: exp of its entropy, shape (2, L)."""
        return np.exp(-(self.place * np.log(np.maximum(self.place, 1e-30))).sum(axis=-1))

    @property
    def moved(self) -> Floats:
        """Share of it that lies elsewhere than in the layer before (total variation), shape (2, L); NaN in layer 0."""
        steps = np.abs(np.diff(self.place, axis=1)).sum(axis=-1) / 2
        return np.concatenate([np.full((2, 1), np.nan), steps], axis=1)

    def on(self, objects: Mask) -> tuple[Floats, Floats]:
        """Whether it finds the tokens of a mask, shape (n,): their part of it over their part of the tokens (1 is
        chance), and the area under the ROC curve (.5 is chance), each (2, L); NaN where the mask is empty or full."""
        area = roc_area(self.place, objects)
        return self.place[..., objects].sum(axis=-1) / max(objects.mean(), 1e-30) + 0 * area, area


def roc_area(scores: Floats, positive: Mask) -> Floats:
    """Chance that a positive token scores above another, ties counting half; of scores (..., n), shape (...)."""
    found, others = int(positive.sum()), int((~positive).sum())
    if not found or not others:
        return np.full(scores.shape[:-1], np.nan)
    ranks = rankdata(scores, axis=-1)[..., positive].sum(axis=-1)
    return np.asarray((ranks - found * (found + 1) / 2) / (found * others))


def effective_rank(states: Tensor) -> float:
    """exp of the entropy of the singular values as shares (Roy and Vetterli 2007; AgilePruner's measure of variety).

    Args:
        states: shape (n, d).
    """
    values = torch.linalg.svdvals(states.float())
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


@torch.inference_mode()
def prompt_attention(model: nn.Module, inputs: Mapping[str, Any]) -> PromptAttention:
    """Read one prompt without pruning.

    Args:
        model: with a file in `hosts/`.
        inputs: of its processor, for a single prompt, on its device.

    Raises:
        PruningError: no host, or a decoder that the probe cannot read.
        InputError: ids and images do not belong together.
    """
    host = find_host(model)
    assert host is not None
    reading = _Reading(host, inputs["input_ids"][0].cpu())
    with ExitStack() as stack:
        stack.enter_context(host.patched_image_encoder(reading.encode))
        for handle in reading.hooks():
            stack.callback(handle.remove)
        unwrapped(model)(**inputs, use_cache=False, logits_to_keep=1)
    assert reading.layout is not None
    share, place = (np.stack(parts, axis=1) for parts in zip(*reading.layers, strict=True))
    return PromptAttention(reading.layout, share, place, np.array(reading.ranks))


class _Reading:
    """The hooks of one pass."""

    def __init__(self, host: Host, ids: Tensor) -> None:
        self.host, self.ids, self.decoder = host, ids, find_decoder(host.model)
        self.images: Any = None
        self.layout: TokenLayout | None = None
        self.capture: Capture | None = None
        self.layers: list[tuple[Floats, Floats]] = []
        self.ranks: list[float] = []

    def encode(self, encode: Callable[..., Any], images: dict[str, Any]) -> Any:
        self.images = encode(**images)
        return self.images

    def hooks(self) -> Sequence[Any]:
        found: list[Any] = []
        for index, layer in enumerate(self.decoder.layers):
            attention: Any = layer.self_attn
            found.append(layer.register_forward_pre_hook(self._enter(index), with_kwargs=True))
            found.append(layer.register_forward_hook(self._leave))
            found += [before_rotation(attention, name).register_forward_hook(self._catch(name)) for name in ("q", "k")]
        return found

    def _enter(self, index: int) -> Callable[..., None]:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self.layout is None:
                (self.layout,) = self.host.layouts([self.ids], self.images)
            hidden = args[0] if args else kwargs["hidden_states"]
            self.ranks.append(effective_rank(hidden[0, self.layout.visual.to(hidden.device)]))
            self.capture = Capture(self.decoder, index, kwargs["position_embeddings"], None, {})

        return enter

    def _catch(self, name: str) -> Callable[..., None]:
        def catch(module: nn.Module, args: Any, output: Tensor) -> None:
            assert self.capture is not None
            self.capture.catch(self.capture.layer, name, output)

        return catch

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        assert self.capture is not None and self.layout is not None
        rows = self.capture.rows(0, slice(0, self.layout.length), max(len(self.layout.question), 1))
        both = torch.stack([rows[:, -1].mean(dim=0), rows.mean(dim=(0, 1))])[:, self.layout.visual.to(rows.device)]
        share = both.double().sum(dim=1).cpu().numpy()
        place = both.double().cpu().numpy() / np.maximum(share, 1e-30)[:, None]
        self.layers.append((share, place))
        self.capture = None


def views_of(
    model: nn.Module, processor: Any, inputs: Mapping[str, Any], sizes: Sequence[tuple[int, int]], layout: TokenLayout
) -> list[View] | None:
    """Where the visual tokens of one prompt stand in its images; None where the host does not know.

    Args:
        model, processor, inputs: of one prompt, as `prompt_attention` takes them.
        sizes: width and height of each image, pixels.
        layout: of the prompt.
    """
    host = find_host(model)
    assert host is not None
    shares = None if host.token_shares is None else host.token_shares.double().cpu().numpy()
    found = []
    for number, (size, span) in enumerate(zip(sizes, layout.views.values(), strict=True)):
        patches = []
        for grid in host.patch_grids(processor, inputs, number, size, len(span)):
            rows = patch_grid(grid.box, grid.rows, grid.columns).reshape(grid.rows, grid.columns, 4)
            ends = np.zeros((grid.rows, 1, 4)) if grid.row_ends else rows[:, :0]
            patches.append(np.concatenate([rows, ends], axis=1).reshape(-1, 4))
        view = View(np.concatenate([np.zeros((0, 4)), *patches]), shares)
        if view.num_tokens != len(span):
            return None
        found.append(view)
    return found
