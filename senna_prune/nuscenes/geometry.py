"""Rigid transforms of many points at once, and cameras that see them. Quaternions are nuScenes' (w, x, y, z)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from senna_prune.task.objects import Box

Array = NDArray[np.float64]


def rotation_matrices(quaternions: Array) -> Array:
    """Rotation matrices, shape (..., 3, 3), of quaternions, shape (..., 4), which need not have unit length."""
    w, x, y, z = np.moveaxis(quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True), -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


@dataclass(frozen=True)
class Poses:
    """N frames within a parent frame.

    Attributes:
        translation: origins in the parent frame, metres, shape (N, 3).
        rotation: child-to-parent rotation matrices, shape (N, 3, 3).
    """

    translation: Array
    rotation: Array

    @classmethod
    def from_quaternions(cls, translation: Array, quaternions: Array) -> Poses:
        return cls(translation, rotation_matrices(quaternions))

    def __getitem__(self, index: NDArray[np.intp]) -> Poses:
        return Poses(self.translation[index], self.rotation[index])

    def to_parent(self, points: Array) -> Array:
        """Points (N, ..., 3) of each frame, in the parent frame."""
        return np.einsum("nij,n...j->n...i", self.rotation, points) + self._origins(points)

    def from_parent(self, points: Array) -> Array:
        """Points (N, ..., 3) of the parent frame, in each frame."""
        return self.turn_from_parent(points - self._origins(points))

    def turn_from_parent(self, vectors: Array) -> Array:
        """Displacements (N, ..., 3) of the parent frame, in each frame."""
        return np.einsum("nji,n...j->n...i", self.rotation, vectors)

    def _origins(self, points: Array) -> Array:
        return self.translation.reshape(len(self.translation), *[1] * (points.ndim - 2), 3)


@dataclass(frozen=True)
class CameraViews:
    """One camera at the N keyframes of a scene.

    Attributes:
        present: where it has a record, shape (N,); elsewhere the rest is of no meaning.
        ego: ego frames in the global frame when the image was taken.
        mount: camera frames (x right, y down, z ahead) in the ego frame.
        intrinsic: shape (N, 3, 3).
        size: width and height of the image, pixels, shape (N, 2).
    """

    present: NDArray[np.bool_]
    ego: Poses
    mount: Poses
    intrinsic: Array
    size: NDArray[np.int64]

    def project(self, corners: Array, keyframe: NDArray[np.intp]) -> list[Box | None]:
        """Where the camera sees the corners of boxes, (A, 8, 3) in the global frame; None where it does not.

        As in the devkit (`export_2d_annotations_as_json`) corners are taken to the time of the image, and a box is that
        of the hull of those in front of the camera, cut at the image's edges.

        Args:
            keyframe: of each box, shape (A,).
        """
        local = self.mount[keyframe].from_parent(self.ego[keyframe].from_parent(corners))
        pixels = np.einsum("nij,ncj->nci", self.intrinsic[keyframe], local)
        found: list[Box | None] = []
        for number, (points, frame) in enumerate(zip(pixels, keyframe, strict=True)):
            ahead = local[number, :, 2] > 0
            seen = self.present[frame] and ahead.any()
            place = points[ahead, :2] / points[ahead, 2:] if seen else None
            found.append(None if place is None else clipped_box(place, self.size[frame].astype(float)))
        return found


def clipped_box(points: Array, size: Array) -> Box | None:
    """The box around the hull of points, (n, 2), cut at the edges of an image; None where nothing of it is inside."""
    if (points.max(axis=0) <= 0).any() or (points.min(axis=0) >= size).any():
        return None
    for axis, bound, sign in ((0, 0.0, 1), (1, 0.0, 1), (0, size[0], -1), (1, size[1], -1)):
        points = _cut(points, axis, bound, sign)
    if not len(points):
        return None
    (left, top), (right, bottom) = points.min(axis=0).round(2).tolist(), points.max(axis=0).round(2).tolist()
    return (left, top, right, bottom) if left < right and top < bottom else None


def _cut(points: Array, axis: int, bound: float, sign: int) -> Array:
    """Points that span the part of their convex hull on one side of a line: those there, and where the line cuts it."""
    beyond = sign * (points[:, axis] - bound)
    inner, outer = points[beyond >= 0], points[beyond < 0]
    if not len(inner) or not len(outer):
        return inner
    near, far = beyond[beyond >= 0, None, None], beyond[beyond < 0, None]
    crossings = (inner[:, None] + near / (near - far) * (outer - inner[:, None])).reshape(-1, 2)
    crossings[:, axis], along = bound, crossings[:, 1 - axis]
    return np.concatenate([inner, crossings[[along.argmin(), along.argmax()]]])
