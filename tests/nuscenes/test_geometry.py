from __future__ import annotations

import numpy as np
import pytest
from pyquaternion import Quaternion

from senna_prune.nuscenes.geometry import Poses, rotation_matrices


def test_rotation_matrices_are_pyquaternions() -> None:
    quaternions = np.random.default_rng(0).normal(size=(20, 4))  # of any length
    expected = [Quaternion(q).rotation_matrix for q in quaternions]
    np.testing.assert_allclose(rotation_matrices(quaternions), expected, atol=1e-14)


@pytest.mark.parametrize("shape", [(5, 3), (5, 7, 3)])
def test_there_and_back(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(1)
    poses = Poses.from_quaternions(generator.normal(size=(5, 3)), generator.normal(size=(5, 4)))
    points = generator.normal(size=shape)
    np.testing.assert_allclose(poses.from_parent(poses.to_parent(points)), points, atol=1e-14)


def test_a_frame_looking_along_y() -> None:
    poses = Poses.from_quaternions(np.array([[10.0, 0.0, 0.0]]), np.array([[1.0, 0.0, 0.0, 1.0]]))  # yaw 90 degrees
    np.testing.assert_allclose(poses.from_parent(np.array([[10.0, 5.0, 0.0]])), [[5.0, 0.0, 0.0]], atol=1e-14)
    np.testing.assert_allclose(poses.turn_from_parent(np.array([[0.0, 5.0, 0.0]])), [[5.0, 0.0, 0.0]], atol=1e-14)
