"""How much each patch feeds each visual token of Senna at one input: the adapter's Jacobian."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from senna_prune.hosts.senna import linear_map

FEATURES = 64
"""Features of the decoder's width, evenly spaced, over which the mean is taken; all of them would cost a decision."""
_CHUNK = 32


@torch.no_grad()
def input_paths(adapter: nn.Module, entering: Tensor, features: int = FEATURES) -> Tensor:
    """Mean over features of |d token / d patch| = |W3 diag(g'(h2)) W2 diag(g'(h1)) W1|, rows normalised to 1.

    Unlike the product of the absolute weights (`hosts.senna.adapter_paths`) it knows which units of the adapter are
    open at this input, and lets paths of opposite sign cancel.

    Args:
        adapter: a `SennaImageAdapter`.
        entering: patch features that enter it, (N, P, D).
        features: how many of the D; all if there are fewer.

    Returns:
        (N, T, P), float32.
    """
    layers: Any = adapter.adapter
    step = max(entering.shape[2] // features, 1)
    states = entering[..., ::step].transpose(1, 2).float()
    maps, slopes, inputs = list[Tensor](), list[Tensor](), entering.shape[1]
    for layer in layers:
        if isinstance(layer, nn.GELU):
            slopes.append(_gelu_slope(states))
            states = nn.functional.gelu(states)
        else:
            weight = linear_map(layer, inputs, entering.dtype).to(entering.device)
            bias = layer(torch.zeros(inputs, dtype=entering.dtype, device=entering.device)).float()
            states = states @ weight.T + bias
            maps, inputs = [*maps, weight], weight.shape[0]
    found = []
    for view in range(len(entering)):
        total = torch.zeros(maps[-1].shape[0], entering.shape[1], device=entering.device)
        for chunk in zip(*(slope[view].split(_CHUNK) for slope in slopes), strict=True):
            paths = maps[-1]
            for weight, slope in zip(reversed(maps[:-1]), reversed(chunk), strict=True):
                paths = (paths * slope[:, None]) @ weight
            total += paths.abs().sum(dim=0)
        found.append(total / total.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny))
    return torch.stack(found)


def _gelu_slope(x: Tensor) -> Tensor:
    return torch.special.ndtr(x) + x * torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)


@contextmanager
def entering_adapter(model: Any, wanted: bool = True) -> Iterator[list[Tensor]]:
    """Inside, patch features that enter a Senna's adapter are appended to the list, each (frames * views, P, D); none
    where they are not wanted."""
    caught: list[Tensor] = []
    if not wanted:
        yield caught
        return
    handle = model.model.img_adapter.register_forward_pre_hook(lambda module, args: caught.append(args[0]))
    try:
        yield caught
    finally:
        handle.remove()
