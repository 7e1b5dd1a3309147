"""Painter's algorithm: a mesh becomes six small images."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tools.demo.world.mesh import Mesh
from tools.demo.world.rig import HEIGHT, RIG, WIDTH, Camera

NEAR = 0.3
"""Everything nearer to a camera than this many metres is cut away."""
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Light:
    """How a scene is lit.

    Attributes:
        sky: RGB at the top of the image; the horizon is paler.
        gain: RGB factors of all colours.
    """

    sky: tuple[int, int, int]
    gain: tuple[float, float, float]


def render(mesh: Mesh, light: Light) -> tuple[np.ndarray, np.ndarray]:
    """Six RGB images in the order of `RIG`, and the number of the group that every pixel shows.

    Returns:
        Shapes (6, HEIGHT, WIDTH, 3) and (6, HEIGHT, WIDTH), both uint8.
    """
    gain = np.asarray(light.gain)
    colours = np.clip(np.asarray(mesh.colours) * gain, 0, 255)
    sky = _sky(light)
    pictures = np.stack([sky] * len(RIG))
    shown = np.zeros(pictures.shape[:3], dtype=np.uint8)
    for camera, picture, groups in zip(RIG, pictures, shown, strict=True):
        for index, outline in _outlines(mesh, camera):
            colour = tuple(float(channel) for channel in colours[index])
            cv2.fillPoly(picture, [outline], colour, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
            cv2.fillPoly(groups, [outline], (mesh.groups[index],), shift=_SUBPIXEL_BITS)
    return pictures, shown


def _sky(light: Light) -> np.ndarray:
    top = np.asarray(light.sky, dtype=np.float64)
    fade = np.linspace(0.0, 0.45, HEIGHT // 2)[:, None]
    rows = top + (235.0 * np.mean(light.gain) - top) * fade
    column = np.concatenate([rows, np.repeat(rows[-1:], HEIGHT - len(rows), axis=0)])
    return np.repeat(np.clip(column, 0, 255).astype(np.uint8)[:, None], WIDTH, axis=1)


def _outlines(mesh: Mesh, camera: Camera) -> list[tuple[int, np.ndarray]]:
    """Quads that face the camera, far to near: (quad number, corners in sub-pixels, shape (n, 2) int32)."""
    quads = np.asarray(mesh.quads)
    groups = np.asarray(mesh.groups)
    relative = quads - np.asarray(camera.translation)
    normals = np.cross(relative[:, 1] - relative[:, 0], relative[:, 3] - relative[:, 0])
    facing = (normals * relative[:, 0]).sum(axis=1) < 0
    seen = relative @ camera.rotation.T
    depth = seen[..., 2]
    # Half-spaces of the view pyramid, widened a little: a quad wholly outside one of them is not in the image.
    half_width, half_height = WIDTH / 2 / camera.focal, HEIGHT / 2 / camera.focal
    inside = (depth > NEAR).any(axis=1)
    for axis, bound in ((0, half_width), (1, half_height)):
        inside &= (seen[..., axis] < bound * depth).any(axis=1) & (seen[..., axis] > -bound * depth).any(axis=1)
    reach = np.hypot(relative[..., 0], relative[..., 1]).min(axis=1)
    distance = np.full(len(mesh.names), np.inf)
    np.minimum.at(distance, groups, reach)
    distance[np.array(mesh.flat)] = np.inf
    wanted = np.flatnonzero(facing & inside)
    ordered = wanted[np.lexsort((wanted, -distance[groups[wanted]]))]
    centre = np.array([WIDTH / 2, HEIGHT / 2])
    outlines = []
    for index in ordered:
        corners = seen[index] if (depth[index] > NEAR).all() else _clip(seen[index])
        pixels = corners[:, :2] / corners[:, 2:] * camera.focal + centre - 0.5
        outlines.append((int(index), np.round(pixels * (1 << _SUBPIXEL_BITS)).astype(np.int32)))
    return outlines


def _clip(corners: np.ndarray) -> np.ndarray:
    """The part of a polygon in front of the near plane (Sutherland-Hodgman), shape (n, 3)."""
    kept = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if start[2] > NEAR:
            kept.append(start)
        if (start[2] > NEAR) != (end[2] > NEAR):
            kept.append(start + (end - start) * (NEAR - start[2]) / (end[2] - start[2]))
    return np.array(kept)
