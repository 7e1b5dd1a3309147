"""Carries what Senna's vision tower knows about 576 patches to the 128 mixed tokens of a view.

Our stated adaptation (no published method supports Senna): the adapter's three linear maps over the token axis, taken
in absolute value and without their activations, say how much each patch feeds each token: A = |W3| |W2| |W1|, rows
normalised to 1. A score on patches becomes A a on tokens; the same A draws tokens back onto the image.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from senna_prune.pruning.interface import VisionEvidence


def adapter_paths(model: nn.Module) -> Tensor:
    """A of shape (tokens per view, patches), float32, rows summing to 1."""
    host: Any = model
    paths: Tensor | None = None
    for module in getattr(host, "model", host).img_adapter.modules():
        if isinstance(module, nn.Linear):
            weight = module.weight.detach().float().abs()
            paths = weight if paths is None else weight @ paths
    assert paths is not None
    return paths / paths.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


def senna_evidence(features: Any, paths: Tensor) -> list[VisionEvidence]:
    """Evidence per sample from `get_image_features(..., output_evidence=True)`, along `adapter_paths(model)`.

    Patch scores (batch, views, patches) and keys (batch, views, patches, key_dim) become token scores (views * tokens,)
    and keys (views * tokens, key_dim), in the order of the visual list.
    """
    paths = paths.to(features.cls_attention.device)
    scores = torch.einsum("tp,bvp->bvt", paths, features.cls_attention.float()).flatten(1)
    keys = None
    if features.patch_keys is not None:
        keys = torch.einsum("tp,bvpk->bvtk", paths, features.patch_keys.float()).flatten(1, 2)
    return [VisionEvidence(score, None if keys is None else keys[i]) for i, score in enumerate(scores)]
