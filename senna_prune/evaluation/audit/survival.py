"""From the boxes of objects to the visual tokens that see them, and how many of these enter which layer.

A token sees an object if the share of the token's input that comes from the object's patches is at least half of the
largest such share among all tokens. The rule has no scale: it holds where tokens are patches, and where an adapter
mixes them. Survival of an object at a layer is the share of its tokens that enter the layer; lift is survival over the
share of all tokens that enter it. A pruner that drops at random has a lift of 1. Tokens that were merged into others
count as dropped: the merged token stands elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from senna_prune.task.objects import Box, SeenObject

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class View:
    """How one image becomes visual tokens.

    Attributes:
        size: width and height of the image file, pixels.
        padded: the image is centred on a square; otherwise its middle square is cut out.
        token_shares: share of each patch in each token, (tokens, patches), rows summing to 1; patches row by row in a
            square grid.
    """

    size: tuple[int, int]
    padded: bool
    token_shares: Floats

    def patch_cover(self, box: Box) -> Floats:
        """Share of each patch's area that lies in a box, shape (patches,)."""
        grid = round(self.token_shares.shape[1] ** 0.5)
        side = max(self.size) if self.padded else min(self.size)
        edges = np.arange(grid + 1) * side / grid
        covers = []
        for axis in (1, 0):
            near, far = (box[place] - (self.size[axis] - side) / 2 for place in (axis, axis + 2))
            covers.append(np.clip(np.minimum(edges[1:], far) - np.maximum(edges[:-1], near), 0, None) * grid / side)
        return np.outer(*covers).ravel()

    def token_cover(self, box: Box) -> Floats:
        """Share of each token's input that comes from a box, shape (tokens,)."""
        return self.token_shares @ self.patch_cover(box)


def seeing_tokens(seen: SeenObject, views: Mapping[str, View]) -> Mask:
    """Which visual tokens see an object, by the rule above, shape (num_visual,); none where no view shows it.

    Args:
        seen: the object.
        views: by camera, in the order of the prompt.
    """
    nothing = (0.0, 0.0, 0.0, 0.0)
    cover = np.concatenate([view.token_cover(seen.boxes.get(camera, nothing)) for camera, view in views.items()])
    most = cover.max(initial=0.0)
    return (cover >= most / 2) & (cover > 0)


def nearness(objects: Sequence[SeenObject], views: Mapping[str, View]) -> tuple[float, ...]:
    """For the oracle controls, per visual token: 1 where it sees the nearest object, 1/2 the second nearest, and so on
    by the nearest one that it sees; 0 where it sees none. Objects of unknown distance come last, in the order given."""
    found = np.zeros(sum(len(view.token_shares) for view in views.values()))
    by_distance = sorted(objects, key=lambda one: np.inf if one.distance is None else one.distance)
    for rank, one in enumerate(by_distance, start=1):
        found = np.maximum(found, seeing_tokens(one, views) / rank)
    return tuple(found.tolist())


def audited_layers(num_layers: int) -> tuple[int, ...]:
    """The layers at which survival is told: at a quarter, a half and three quarters of the depth, and the last."""
    return tuple(sorted({num_layers // 4, num_layers // 2, 3 * num_layers // 4, num_layers - 1}))


def survival(seeing: Mask, depths: Sequence[int] | NDArray[np.int64], layers: Sequence[int]) -> list[float]:
    """Share of the tokens in a mask that enter each of some layers; NaN where the mask is empty.

    Args:
        seeing: which tokens count, shape (num_visual,).
        depths: number of layers that each token enters, shape (num_visual,); tokens only ever leave.
        layers: numbered from 0.
    """
    own = np.asarray(depths)[seeing]
    return [float((own > layer).mean()) if own.size else float("nan") for layer in layers]
