"""Senna: placeholders of a fixed number per view, and scores carried from the tower's patches to mixed tokens.

Our stated adaptation (no published method supports Senna): the adapter's three linear maps over the token axis, taken
in absolute value and without their activations, say how much each patch feeds each token: A = |W3| |W2| |W1|, rows
normalised to 1. A score on patches becomes A a on tokens; the same A draws tokens back onto the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from senna_prune.errors import InputError
from senna_prune.hosts.host import Host
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.base import VisionScores


class SennaHost(Host):
    """See `Host`."""

    @cached_property
    def paths(self) -> Tensor:
        """`adapter_paths` of the model."""
        return adapter_paths(self.model)

    @property
    def full_size(self) -> int:
        config = self.model.config
        return config.num_views * config.num_view_tokens

    def layouts(self, rows: Sequence[Tensor], images: Any) -> list[TokenLayout]:
        config = self.model.config
        return [TokenLayout.from_ids(row, config.image_token_id, config.num_view_tokens) for row in rows]

    def encode_with_vision_scores(self, encode: Callable[..., Any], images: dict[str, Any]) -> tuple[Any, VisionScores]:
        features = encode(**images | {"output_vision_scores": True})
        frames = senna_vision_scores(features.cls_attention, features.patch_keys, self.paths)
        scores, keys = zip(*((frame.score, frame.keys) for frame in frames), strict=True)
        return features, VisionScores(torch.cat(scores), torch.cat(keys))


def adapter_paths(model: nn.Module) -> Tensor:
    """A of shape (tokens per view, patches), float32, rows summing to 1.

    Raises:
        InputError: the adapter's weights are not in memory.
    """
    host: Any = model
    paths: Tensor | None = None
    for module in getattr(host, "model", host).img_adapter.modules():
        if isinstance(module, nn.Linear):
            if module.weight.is_meta:
                raise InputError("the adapter's weights are offloaded", hint="keep img_adapter on a device")
            weight = module.weight.detach().float().abs()
            paths = weight if paths is None else weight @ paths
    assert paths is not None
    return paths / paths.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


def senna_vision_scores(cls_attention: Tensor, keys: Tensor | None, paths: Tensor) -> list[VisionScores]:
    """Vision scores per sample from what the vision tower saw.

    Args:
        cls_attention: class-token attention to patches, (batch, views, patches).
        keys: of the patches, (batch, views, patches, key_dim), or None.
        paths: `adapter_paths(model)`.

    Returns:
        Token scores (views * tokens,) and keys (views * tokens, key_dim), in the order of the visual list.
    """
    paths = paths.to(cls_attention.device)
    scores = torch.einsum("tp,bvp->bvt", paths, cls_attention.float()).flatten(1)
    mixed = None if keys is None else torch.einsum("tp,bvpk->bvtk", paths, keys.float()).flatten(1, 2)
    return [VisionScores(score, None if mixed is None else mixed[i]) for i, score in enumerate(scores)]
