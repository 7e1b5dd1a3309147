"""What pruning policies read off a vision tower, beside whatever attention kernel it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from senna_prune.errors import PruningError
from senna_prune.model.vision import class_attention_and_keys

ROWS = 256
"""Queries whose attention is in memory at once."""


def scored_layer(model: Any, images: Mapping[str, Any]) -> tuple[Any, bool, str]:
    """The layer of a CLIP-like tower that makes the features, whether a class token stands before its patches, and what
    is done with the first token: "default" drops it, "full" does not.

    Args:
        model: with `vision_tower`, `config.vision_feature_layer` and `config.vision_feature_select_strategy`.
        images: arguments of `get_image_features`, which win over the configuration.

    Raises:
        PruningError: there is no such layer, or the class token is among the visual tokens.
    """
    tower = model.base_model.vision_tower
    inner = getattr(tower, "vision_model", tower)
    layers = getattr(getattr(inner, "encoder", None), "layers", ())
    asked = {name: images.get(name) for name in ("vision_feature_layer", "vision_feature_select_strategy")}
    number, strategy = (getattr(model.config, name) if value is None else value for name, value in asked.items())
    numbers, states = [number] if isinstance(number, int) else list(number), len(layers) + 1
    # Numbers count states, of which the first enters layer 0. Of several states the last has seen most.
    behind = max((n % states for n in numbers if -states <= n < states), default=0)
    layer: Any = layers[behind - 1] if behind else None
    parts = ("q_proj", "k_proj", "head_dim", "scale")
    like_clip = hasattr(layer, "layer_norm1") and all(hasattr(getattr(layer, "self_attn", None), p) for p in parts)
    if not like_clip or any(not -states <= n < states for n in numbers):
        raise PruningError(
            f"feature layer {number} of {type(tower).__name__} has no CLIP-like attention to read scores from",
            hint="choose a method that does not look at the vision tower, or pass vision= to prune()",
        )
    has_class_token = hasattr(inner.embeddings, "class_embedding")
    if strategy == "full" and has_class_token:
        raise PruningError(
            "the class token is among the visual tokens and has no score of its own",
            where="vision_feature_select_strategy",
            hint="use default",
        )
    return layer, has_class_token, strategy


def encode_with_patch_scores(
    model: Any, encode: Callable[..., Any], images: dict[str, Any]
) -> tuple[Any, tuple[Tensor, Tensor]]:
    """Encode images with the CLIP-like tower of a LLaVA, and read the layer that makes the features.

    Args:
        model, images: as `scored_layer` takes them.
        encode: as in `Host.encode_with_vision_scores`.

    Returns:
        What `encode` returned; and per patch, without the class token: attention of the class token to it, or, where
        the tower has none, the mean attention it receives, shape (images or tiles, P), and its key, mean over heads,
        shape (images or tiles, P, head_dim).

    Raises:
        PruningError: as `scored_layer`.
    """
    layer, has_class_token, strategy = scored_layer(model, images)
    entering: list[Tensor] = []
    handle = layer.register_forward_pre_hook(
        lambda module, args, kwargs: entering.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    try:
        outputs = encode(**images)
    finally:
        handle.remove()
    if has_class_token:
        return outputs, class_attention_and_keys(layer, entering[0])
    attention, normed = layer.self_attn, layer.layer_norm1(entering[0])
    queries, keys = (
        part(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        for part in (attention.q_proj, attention.k_proj)
    )
    first = 0 if strategy == "full" else 1
    return outputs, (received(queries, keys, attention.scale)[:, first:], keys.mean(dim=1)[:, first:])


def received(queries: Tensor, keys: Tensor, scaling: float) -> Tensor:
    """Mean attention that each of n tokens receives from all of them, over heads and queries, times n: 1 is the average
    of its image, so that images of different sizes can compete.

    Args:
        queries, keys: shape (..., heads, n, head_dim).

    Returns:
        float32, shape (..., n).
    """
    total = queries.new_zeros((), dtype=torch.float32)
    for block in queries.split(ROWS, dim=-2):
        total = total + ((block @ keys.transpose(-1, -2)) * scaling).softmax(dim=-1, dtype=torch.float32).sum((-3, -2))
    return total / queries.shape[-3]
