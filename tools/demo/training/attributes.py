"""Stage 1: the vision tower learns, token by token, to name what each part of an image shows.

A token names what its own part of the image shows and nothing else: what decides stands in a few tokens, where
attention can find it. The heads that name things are thrown away.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from senna_prune.model.configuration import SennaConfig
from senna_prune.model.modeling import SennaModel
from senna_prune.model.vision import class_attention_and_keys
from tools.demo.world.rig import HEIGHT, WIDTH

ATTRIBUTES = (
    *("red", "green", "following", "braking", "truck", "barrier", "signal left", "signal right", "on road"),
    *("8 m", "10 m", "13 m", "17 m", "side street", "crossing", "beside", "ambulance"),
    # what decides nothing has names too: a token must not take one for the other
    *("bystander left", "bystander right", "other car left", "other car right", "other braking left"),
    *("other braking right", "parked", "follower", "van"),
)
DECIDING = [number for number, name in enumerate(ATTRIBUTES[:17]) if name != "17 m"]
"""Numbers of the attributes of what decides; somebody 17 m ahead may also stand beside the road."""
SHOWN, HIDDEN = 0.15, 0.05
"""A token names what covers at least so much of its part, and must not name what covers at most so much of it."""
BLOCK = 7
"""Coverage is kept for squares of so many pixels: half a patch."""
TOKEN_RMS = 0.35
"""Of visual tokens: far smaller ones are drowned by what the decoder's first layers write."""
_SHIFT = 3.0
"""The adapter's GELUs see values so far above 0 that they change hardly any."""
_DENIED, _LOOK, _SCALE = 0.05, 0.3, 1.0
"""Weights of the losses beside that of naming what is shown."""
_LOOKED = 0.7
"""Share of the class token's attention from which on more on things is not asked for."""
_MIRRORED = {"left": "right", "right": "left"}

MIRRORED_ATTRIBUTES = [
    ATTRIBUTES.index(" ".join(_MIRRORED.get(word, word) for word in name.split())) for name in ATTRIBUTES
]
"""Number that each attribute has in a mirror."""


def grid_pooling(config: SennaConfig) -> Tensor:
    """What each token sees of the patches: Gaussian weights around the points of a grid over the image's content.

    Returns:
        Shape (T, P); rows sum to 1.
    """
    side = config.vision_config.image_size // config.vision_config.patch_size
    tokens = config.num_view_tokens
    square = (tokens * HEIGHT / WIDTH) ** 0.5
    rows = min((one for one in range(1, tokens + 1) if tokens % one == 0), key=lambda one: abs(one - square))
    columns, content = tokens // rows, side * HEIGHT / WIDTH
    y = (side - content) / 2 + content * (torch.arange(rows) + 0.5) / rows
    x = side * (torch.arange(columns) + 0.5) / columns
    patches = torch.cartesian_prod(torch.arange(side) + 0.5, torch.arange(side) + 0.5)
    spread = 0.5 * max(content / rows, side / columns)
    weights = torch.exp(-(torch.cdist(torch.cartesian_prod(y, x), patches) ** 2) / (2 * spread**2))
    return weights / weights.sum(dim=1, keepdim=True)


@torch.no_grad()
def set_adapter(model: SennaModel) -> None:
    """Make the adapter pooling over a grid, for good: every token is of its own part of the image."""
    first, second, third = (layer for layer in model.img_adapter.adapter if isinstance(layer, nn.Linear))
    identity = torch.eye(model.config.num_view_tokens)
    for layer, weight, bias in (
        (first, grid_pooling(model.config), _SHIFT),
        (second, identity, 0.0),
        (third, TOKEN_RMS * identity, -TOKEN_RMS * _SHIFT),
    ):
        layer.weight.copy_(weight)
        layer.bias.fill_(bias)
    model.img_adapter.requires_grad_(False)


def patch_coverage(coverage: Tensor, side: int) -> Tensor:
    """Share of every patch that shows each attribute, shape (N, attributes, side * side), the letterbox included.

    Args:
        coverage: of the image's blocks, shape (N, attributes, HEIGHT / BLOCK, WIDTH / BLOCK).
    """
    above = (coverage.shape[3] - coverage.shape[2]) // 2
    square = nn.functional.pad(coverage, (0, 0, above, above))
    return nn.functional.avg_pool2d(square, square.shape[-1] // side).flatten(2)


class AttributeHeads(nn.Module):
    """Reads all attributes off each token, linearly, and those of the whole image off the class token."""

    def __init__(self, width: int, vision_width: int) -> None:
        super().__init__()
        self.class_norm = nn.LayerNorm(vision_width)
        self.of_token = nn.Linear(width, len(ATTRIBUTES))
        self.of_class = nn.Linear(vision_width, len(ATTRIBUTES))
        nn.init.constant_(self.of_token.bias, -3.0)

    def loss(self, model: SennaModel, pixels: Tensor, coverage: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Loss of some images, and figures for the log.

        Args:
            pixels: shape (N, 3, H, W).
            coverage: as for `patch_coverage`.
        """
        config = model.config
        patches = patch_coverage(coverage, config.vision_config.image_size // config.vision_config.patch_size)
        shares = patches @ grid_pooling(config).T.to(patches)  # (N, attributes, T)
        entering, hidden = model.run_tower(pixels)
        tokens = model.adapt(hidden[:, 1:])
        logits = self.of_token(tokens / TOKEN_RMS).float().transpose(1, 2)
        shown, denied = shares >= SHOWN, shares <= HIDDEN
        present = shown.any(dim=-1)
        # Every attribute of every image counts alike, however many tokens show it.
        named = (nn.functional.softplus(-logits) * shown / shown.sum(dim=-1, keepdim=True).clamp(min=1)).sum()
        false = (nn.functional.softplus(logits) * denied).sum()
        of_tokens = (named + _DENIED * false) / present.sum().clamp(min=1)
        guessed = self.of_class(self.class_norm(hidden[:, 0])).float()
        of_class = nn.functional.binary_cross_entropy_with_logits(guessed, present.float())
        # The class token looks at things, whether they decide or not; but not with all its attention.
        layer = cast(CLIPEncoderLayer, model.vision_tower.encoder.layers[config.num_vision_layers - 1])
        things = (patches.amax(dim=1) >= 2 * SHOWN).float()
        seen = (class_attention_and_keys(layer, entering)[0] * things).sum(dim=1)
        look = -(seen[things.any(dim=1)].clamp(max=_LOOKED) + 1e-6).log().sum() / len(pixels)
        rms = tokens.float().pow(2).mean().sqrt() / TOKEN_RMS
        with torch.no_grad():
            figures = {
                "named": float(((logits > 0) & shown).sum() / shown.sum().clamp(min=1)),
                "false": float(((logits > 0) & denied).sum() / len(pixels)),
                "right_class": float(((guessed > 0) == present).float().mean()),
                "look": float(look),
                "rms": float(rms),
            }
        return of_tokens + of_class + _LOOK * look + _SCALE * (rms - 1) ** 2, figures
