"""Senna: placeholders of a fixed number per view, and scores carried from the tower's patches to mixed tokens.

Our stated adaptation (no published method supports Senna): the adapter's three linear maps over the token axis, taken
in absolute value and without their activations, say how much each patch feeds each token: A = |W3| |W2| |W1|, rows
normalised to 1. A score on patches becomes A a on tokens; the same A draws tokens back onto the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from senna_prune.errors import InputError, PruningError, as_error
from senna_prune.hosts.host import Host, PatchGrid
from senna_prune.image_files import middle_square
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.base import VisionScores


class SennaHost(Host):
    """See `Host`."""

    @cached_property
    def paths(self) -> Tensor:
        """`adapter_paths` of the model."""
        return adapter_paths(self.model)

    def check_geometry(self, scores: bool) -> None:
        if scores and not self.model.config.num_vision_layers:
            raise PruningError("no layer of the tower runs, so it attends to nothing", where="vision_feature_layer")

    @property
    def full_size(self) -> int:
        config = self.model.config
        return config.num_views * config.num_view_tokens

    def layouts(self, rows: Sequence[Tensor], images: Any) -> list[TokenLayout]:
        config = self.model.config
        return [TokenLayout.from_ids(row, config.image_token_id, config.num_view_tokens) for row in rows]

    def encode_with_vision_scores(self, encode: Callable[..., Any], images: dict[str, Any]) -> tuple[Any, VisionScores]:
        features = encode(**images | {"output_vision_scores": True})
        frames = self.vision_scores(features.cls_attention, features.patch_keys)
        scores, keys = zip(*((frame.score, frame.keys) for frame in frames), strict=True)
        return features, VisionScores(torch.cat(scores), torch.cat(keys))

    def vision_scores(self, cls_attention: Tensor, keys: Tensor) -> list[VisionScores]:
        """Scores (views * tokens,) and keys (views * tokens, key_dim) of each sample's tokens, in the order of the
        visual list, from class-token attention to patches, (batch, views, patches), and keys, (..., key_dim)."""
        paths = self.paths.to(cls_attention.device)
        scores = torch.einsum("tp,bvp->bvt", paths, cls_attention.float()).flatten(1)
        mixed = torch.einsum("tp,bvpk->bvtk", paths, keys.float()).flatten(1, 2)
        return [VisionScores(*own) for own in zip(scores, mixed, strict=True)]

    def patch_grids(
        self, processor: Any, inputs: Mapping[str, Any], number: int, size: tuple[int, int], count: int
    ) -> list[PatchGrid]:
        side = round(self.model.config.num_patches**0.5)
        return [PatchGrid(side, side, middle_square(size, processor.image_aspect_ratio == "pad"))]

    @property
    def token_shares(self) -> Tensor:
        return self.paths


def adapter_paths(model: nn.Module) -> Tensor:
    """A of shape (tokens per view, patches), float32, rows summing to 1.

    Raises:
        InputError: a layer of the adapter does not run.
    """
    host: Any = model
    paths: Tensor | None = None
    for layer in getattr(host, "model", host).img_adapter.adapter:
        if not isinstance(layer, nn.GELU):
            inputs = host.config.num_patches if paths is None else paths.shape[0]
            weight = linear_map(layer, inputs, host.dtype).abs()
            paths = weight if paths is None else weight @ paths.to(weight.device)
    assert paths is not None
    return paths / paths.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


@torch.no_grad()
def linear_map(layer: nn.Module, inputs: int, dtype: torch.dtype) -> Tensor:
    """What a linear layer of any class multiplies its `inputs` with, (out, inputs), float32.

    A plain weight is read. What is quantised, has a low-rank addition or lies on a disk is run on unit vectors of
    `dtype` instead: only the layer itself knows what its tensors mean.

    Raises:
        InputError: the layer does not run.
    """
    weight = getattr(layer, "weight", None)
    if type(layer) is nn.Linear and type(weight) is nn.Parameter and not weight.is_meta:
        return weight.detach().float()
    tensors = (*layer.parameters(), *layer.buffers())
    device = next((tensor.device for tensor in tensors if not tensor.is_meta), torch.device("cpu"))
    unit = torch.eye(inputs, dtype=dtype, device=device)[None]
    with as_error(InputError, f"the adapter's {type(layer).__name__} cannot be run", "img_adapter"):
        outputs: Tensor = layer(unit).float() - layer(torch.zeros_like(unit)).float()
    return outputs[0].T
