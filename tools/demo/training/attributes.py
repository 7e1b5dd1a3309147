"""Stage 1: trains the vision tower, projector and adapter to name what each synthetic picture shows.

They learn to see before the decoder learns to read (stage 2); the heads that name things are thrown away.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from senna_prune.model.modeling import SennaModel
from tools.demo.world.rig import HEIGHT, WIDTH
from tools.demo.world.street import Side, Street

ATTRIBUTES = (
    "city",
    "red",
    "green",
    "following",
    "braking",
    "truck",
    "barrier",
    "pedestrian",
    "side street",
    "crossing pedestrian",
    "vehicle beside",
    "ambulance",
    "signal left",
    "signal right",
)

NOT_ASKED = -1.0
SHOWN_IN = 32
"""Tokens of a view in which an attribute is to be readable: a few among 768 are hardly ever found by the decoder."""


def picture_attributes(street: Street) -> np.ndarray:
    """What the six pictures show, shape (6, attributes): 1, 0, or `NOT_ASKED` where a camera does not decide it."""
    front = {name: street.ahead == name for name in ("following", "braking", "truck", "barrier")}
    front |= {"red": street.light == "red", "green": street.light == "green", "pedestrian": street.pedestrian}
    front |= {f"signal {side}": street.signal == side for side in ("left", "right")}
    views = [
        front,
        _front_corner(street.left),
        _front_corner(street.right),
        {"vehicle beside": street.left.vehicle == "behind"},
        {"vehicle beside": street.right.vehicle == "behind"},
        {"ambulance": street.ambulance},
    ]
    table = np.full((len(views), len(ATTRIBUTES)), NOT_ASKED, dtype=np.float32)
    for row, view in zip(table, views, strict=True):
        row[ATTRIBUTES.index("city")] = street.road == "city"
        for name, value in view.items():
            row[ATTRIBUTES.index(name)] = value
    return table


def _front_corner(side: Side) -> dict[str, bool]:
    return {
        "side street": side.street,
        "crossing pedestrian": side.pedestrian,
        "vehicle beside": side.vehicle == "front",
    }


class AttributeHeads(nn.Module):
    """Reads all attributes three times: off all tokens of a view at once, off each token, and off the class token.

    The first is learnt soonest. The second reads every token alike and takes the mean of the strongest: what an object
    is must then be written in several tokens, where the decoder's attention can find it, and not in the order of the
    tokens. The third teaches the class token to look at what matters: methods that rank patches by its attention would
    otherwise read noise.
    """

    def __init__(self, num_tokens: int, width: int, vision_width: int) -> None:
        super().__init__()
        self.tokens_norm, self.class_norm = nn.LayerNorm(width), nn.LayerNorm(vision_width)
        self.of_all = nn.Linear(num_tokens * width, len(ATTRIBUTES))
        self.of_each = nn.Linear(width, len(ATTRIBUTES))
        self.of_class = nn.Linear(vision_width, len(ATTRIBUTES))

    def forward(self, model: SennaModel, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits off all tokens, each token and the class token, each (N, attributes), of pictures (N, 3, H, W)."""
        _, hidden = model.run_tower(pixels)
        tokens = self.tokens_norm(model.adapt(hidden[:, 1:]))
        strongest = self.of_each(tokens).topk(min(SHOWN_IN, tokens.shape[1]), dim=1).values.mean(dim=1)
        return self.of_all(tokens.flatten(1)), strongest, self.of_class(self.class_norm(hidden[:, 0]))


def attribute_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, float]:
    """Binary cross entropy over what was asked, and the share of right answers.

    Args:
        logits: shape (N, attributes). targets: the same, with `NOT_ASKED`.
    """
    asked = targets != NOT_ASKED
    loss = nn.functional.binary_cross_entropy_with_logits(logits.float()[asked], targets[asked])
    right = ((logits > 0) == (targets > 0.5))[asked].float().mean()
    return loss, float(right)


@torch.no_grad()
def initialise_adapter(model: SennaModel) -> None:
    """Start the adapter as pooling over a grid of places in the picture, instead of as noise over all patches.

    The first Linear averages patches around the points of a grid within the picture's content rows with Gaussian
    weights; the other two begin near the identity.
    """
    config = model.config
    side = config.vision_config.image_size // config.vision_config.patch_size
    first, second, third = (layer for layer in model.img_adapter.adapter if isinstance(layer, nn.Linear))
    square = (config.num_view_tokens * HEIGHT / WIDTH) ** 0.5
    divisors = [rows for rows in range(1, config.num_view_tokens + 1) if config.num_view_tokens % rows == 0]
    rows = min(divisors, key=lambda count: abs(count - square))
    columns = config.num_view_tokens // rows
    content = side * HEIGHT / WIDTH
    y = (side - content) / 2 + content * (torch.arange(rows) + 0.5) / rows
    x = side * (torch.arange(columns) + 0.5) / columns
    grid = torch.cartesian_prod(y, x)
    patches = torch.cartesian_prod(torch.arange(side) + 0.5, torch.arange(side) + 0.5)
    spread = 0.5 * max(content / rows, side / columns)
    weights = torch.exp(-(torch.cdist(grid, patches) ** 2) / (2 * spread**2))
    first.weight.copy_(weights / weights.sum(dim=1, keepdim=True))
    for layer in (second, third):
        layer.weight.copy_(torch.eye(config.num_view_tokens) + 0.02 * torch.randn_like(layer.weight.float()))
    for layer in (first, second, third):
        layer.bias.zero_()
