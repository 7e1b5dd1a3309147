"""Flat-coloured quadrilaterals in the ego frame: what the renderer draws."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Colour = tuple[int, int, int]
"""RGB, 0-255."""

_FACES = np.array([[1, 2, 6, 5], [3, 0, 4, 7], [2, 3, 7, 6], [0, 1, 5, 4], [4, 5, 6, 7]])
"""Front, back, left, right, top of a box by its corners, wound so that the normal points outwards."""
_SHADES = (0.92, 0.80, 0.86, 0.86, 1.0)
FACE_NAMES = ("front", "back", "left", "right", "top")


@dataclass
class Mesh:
    """Quads in groups; a group is drawn as a whole, in the order in which its quads were added.

    Attributes:
        quads: corners, each of shape (4, 3).
        colours: RGB per quad.
        groups: group number per quad; 0 is the ground, drawn first.
        names: name of each group; named groups can be counted in the images.
        shows: attributes that each group shows, see `training.attributes`.
        flat: groups that lie on the ground, drawn with it.
    """

    quads: list[np.ndarray] = field(default_factory=list)
    colours: list[Colour] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=lambda: ["ground"])
    shows: list[tuple[str, ...]] = field(default_factory=lambda: [()])
    flat: list[bool] = field(default_factory=lambda: [True])

    def new_group(self, name: str = "", *shows: str, flat: bool = False) -> int:
        self.names.append(name)
        self.shows.append(shows)
        self.flat.append(flat)
        return len(self.names) - 1

    def add(self, quad: np.ndarray, colour: Colour, group: int) -> None:
        self.quads.append(quad)
        self.colours.append(colour)
        self.groups.append(group)

    def ground(self, x: tuple[float, float], y: tuple[float, float], colour: Colour, group: int = 0) -> None:
        """A horizontal rectangle on the ground, metres."""
        (x0, x1), (y0, y1) = x, y
        self.add(np.array([[x0, y0, 0.0], [x1, y0, 0.0], [x1, y1, 0.0], [x0, y1, 0.0]]), colour, group)

    def box(
        self,
        centre: tuple[float, float],
        size: tuple[float, float, float],
        colour: Colour,
        group: int,
        bottom: float = 0.0,
    ) -> None:
        """An upright box with sides along the axes.

        Args:
            centre: x, y of its middle, metres.
            size: length (along x), width (along y), height, metres.
            bottom: height of its underside, metres.
        """
        (x, y), (length, width, height) = centre, size
        dx, dy = length / 2, width / 2
        flat = np.array([[x - dx, y - dy], [x + dx, y - dy], [x + dx, y + dy], [x - dx, y + dy]])
        corners = np.zeros((8, 3))
        corners[:4, :2] = corners[4:, :2] = flat
        corners[:4, 2], corners[4:, 2] = bottom, bottom + height
        for face, shade in zip(_FACES, _SHADES, strict=True):
            self.add(corners[face], _shade(colour, shade), group)

    def plate(
        self,
        x: float,
        y: tuple[float, float],
        z: tuple[float, float],
        colour: Colour,
        group: int,
        *,
        facing_back: bool,
    ) -> None:
        """An upright rectangle across the road at `x`, visible from one side: a lamp, a window, a stripe."""
        (y0, y1), (z0, z1) = y, z
        quad = np.array([[x, y1, z0], [x, y0, z0], [x, y0, z1], [x, y1, z1]])
        self.add(quad if facing_back else quad[::-1].copy(), colour, group)

    def side_plate(
        self, x: tuple[float, float], y: float, z: tuple[float, float], colour: Colour, group: int, *, facing_left: bool
    ) -> None:
        """An upright rectangle along the road at `y`, visible from one side."""
        (x0, x1), (z0, z1) = x, z
        quad = np.array([[x1, y, z0], [x0, y, z0], [x0, y, z1], [x1, y, z1]])
        self.add(quad if facing_left else quad[::-1].copy(), colour, group)


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (round(min(255.0, channel * factor)) for channel in colour)
    return red, green, blue
