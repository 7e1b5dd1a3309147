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
from msgspec import Struct
from numpy.typing import NDArray

from senna_prune.cost import Count
from senna_prune.image_files import middle_square
from senna_prune.task.objects import Box, SeenObject

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class View:
    """How one image becomes visual tokens.

    Attributes:
        patches: left, top, right and bottom of each patch, pixels of the image file, shape (patches, 4); without area
            where it has no place in the image.
        token_shares: share of each patch in each token, (tokens, patches), rows summing to 1; None: tokens are patches.
    """

    patches: Floats
    token_shares: Floats | None = None

    @classmethod
    def square(cls, size: tuple[int, int], padded: bool, token_shares: Floats) -> View:
        """Patches in a square grid on an image of a width and height, pixels.

        Args:
            padded: the image is centred on a square; otherwise its middle square is cut out.
        """
        grid = round(token_shares.shape[1] ** 0.5)
        return cls(patch_grid(middle_square(size, padded), grid, grid), token_shares)

    @property
    def num_tokens(self) -> int:
        return len(self.patches if self.token_shares is None else self.token_shares)

    def patch_cover(self, box: Box) -> Floats:
        """Share of each patch's area that lies in a box, shape (patches,)."""
        near, far = np.maximum(self.patches[:, :2], box[:2]), np.minimum(self.patches[:, 2:], box[2:])
        areas = np.prod(self.patches[:, 2:] - self.patches[:, :2], axis=1)
        return np.prod(np.clip(far - near, 0, None), axis=1) / np.where(areas > 0, areas, np.inf)

    def token_cover(self, box: Box) -> Floats:
        """Share of each token's input that comes from a box, shape (tokens,)."""
        cover = self.patch_cover(box)
        return cover if self.token_shares is None else self.token_shares @ cover


def patch_grid(box: Box, rows: int, columns: int) -> Floats:
    """Patches that divide a rectangle evenly, row by row, shape (rows * columns, 4)."""
    x, y = np.linspace(box[0], box[2], columns + 1), np.linspace(box[1], box[3], rows + 1)
    corners = [np.stack(np.meshgrid(x[place], y[place]), axis=-1) for place in (slice(None, -1), slice(1, None))]
    return np.concatenate(corners, axis=-1).reshape(-1, 4)


def seeing_tokens(seen: SeenObject, views: Mapping[str, View]) -> Mask:
    """Which visual tokens see an object, by the rule above, shape (num_visual,); none where no view shows it.

    Args:
        seen: the object.
        views: by camera, in the order of the prompt.
    """
    cover = np.concatenate(
        [
            view.token_cover(seen.boxes[camera]) if camera in seen.boxes else np.zeros(view.num_tokens)
            for camera, view in views.items()
        ]
    )
    return (cover >= cover.max(initial=0.0) / 2) & (cover > 0)


def nearness(objects: Sequence[SeenObject], seeing: Mask) -> tuple[float, ...]:
    """For the oracle controls, per visual token: 1 where it sees the nearest object, 1/2 the second nearest, and so on
    by the nearest one that it sees; 0 where it sees none. Objects of unknown distance come last, in the order given.

    Args:
        objects: of the sample.
        seeing: which tokens see each, shape (objects, num_visual).
    """
    found = np.zeros(seeing.shape[1])
    by_distance = sorted(range(len(objects)), key=lambda one: _far(objects[one]))
    for rank, one in enumerate(by_distance, start=1):
        found = np.maximum(found, seeing[one] / rank)
    return tuple(found.tolist())


def _far(seen: SeenObject) -> float:
    return np.inf if seen.distance is None else seen.distance


def audited_layers(num_layers: int) -> tuple[int, ...]:
    """The layers at which survival is told: at a quarter, a half and three quarters of the depth, and the last."""
    return tuple(sorted({num_layers // 4, num_layers // 2, 3 * num_layers // 4, num_layers - 1}))


class Survival(Struct, frozen=True, forbid_unknown_fields=True):
    """How many visual tokens of a prompt enter some layers: of all, and of those that see an object.

    Attributes:
        layers: numbered from 0.
        tokens: of the prompt, and of them those that enter each of the layers; tokens made by merging do not count.
        objects: the same for each object of the sample, in its order: tokens that see it, and those that enter.
    """

    layers: tuple[Count, ...]
    tokens: tuple[Count, ...]
    objects: tuple[tuple[Count, ...], ...]

    def __post_init__(self) -> None:
        if any(
            len(counts) != 1 + len(self.layers) or max(counts) > counts[0] for counts in (self.tokens, *self.objects)
        ):
            raise ValueError("each list holds as many tokens as there are, and those that enter each layer")


def survival(seeing: Mask, entering: Mapping[int, NDArray[np.int64]]) -> Survival:
    """Counts of one decision.

    Args:
        seeing: which tokens see each object, shape (objects, num_visual).
        entering: by layer, which tokens of the prompt enter it; negative numbers are merged tokens.
    """
    everything = np.vstack([np.ones(seeing.shape[1], dtype=bool), seeing])
    counts = [everything.sum(axis=1), *(everything[:, kept[kept >= 0]].sum(axis=1) for kept in entering.values())]
    tokens, *objects = np.stack(counts, axis=1).tolist()
    return Survival(tuple(entering), tuple(tokens), tuple(map(tuple, objects)))
