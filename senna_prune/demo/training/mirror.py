"""Whole-scene mirroring: a mirrored scene is another, equally good scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from senna_prune.demo.world.street import Street

_MIRRORED_VIEWS = np.array([0, 2, 1, 4, 3, 5])
"""FRONT, FRONT RIGHT, FRONT LEFT, BACK RIGHT, BACK LEFT, BACK."""


def mirror_pictures(pictures: np.ndarray) -> np.ndarray:
    """Pictures of one scene, shape (6, rows, columns, 3), seen in a mirror."""
    return pictures[_MIRRORED_VIEWS, :, ::-1]


def mirror_street(street: Street) -> Street:
    return replace(street, left=street.right, right=street.left)
