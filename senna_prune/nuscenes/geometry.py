"""Rigid transforms of many points at once. Quaternions are nuScenes' (w, x, y, z)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
