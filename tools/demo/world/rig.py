"""The six cameras of the demo car: nuScenes' yaws and fields of view, at a small image size.

Frames follow nuScenes: the ego frame has x forward, y left, z up; a camera frame has x right, y down, z forward; the
lidar frame has x right, y forward, z up. Metres and radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from senna_prune.task.labels import CAMERAS

WIDTH, HEIGHT = 224, 126
"""Size of every rendered image, pixels: the 16:9 of nuScenes, and 16 x 9 patches of 14 pixels."""

Quaternion = tuple[float, float, float, float]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks horizontally.

    Attributes:
        channel: nuScenes channel name.
        yaw: viewing direction in the ego frame, radians, positive to the left.
        translation: position in the ego frame, metres.
        focal: focal length, pixels at `WIDTH`.
    """

    channel: str
    yaw: float
    translation: tuple[float, float, float]
    focal: float

    @property
    def rotation(self) -> np.ndarray:
        """Rows are the camera's x, y and z axis in the ego frame, shape (3, 3): takes ego vectors to the camera."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return np.array([[sin, -cos, 0.0], [0.0, 0.0, -1.0], [cos, sin, 0.0]])

    @property
    def quaternion(self) -> Quaternion:
        """Camera-to-ego rotation (w, x, y, z) as the devkit's `calibrated_sensor` stores it."""
        cos, sin = math.cos(self.yaw / 2), math.sin(self.yaw / 2)
        return ((cos + sin) / 2, (-cos - sin) / 2, (cos - sin) / 2, (sin - cos) / 2)

    @property
    def intrinsic(self) -> list[list[float]]:
        """3 x 3 camera matrix for images of `WIDTH` x `HEIGHT`."""
        return [[self.focal, 0.0, WIDTH / 2], [0.0, self.focal, HEIGHT / 2], [0.0, 0.0, 1.0]]


_MOUNTS: dict[str, tuple[float, tuple[float, float, float], float]] = {
    "CAM_FRONT": (0.0, (1.7, 0.0, 1.5), 177.2),
    "CAM_FRONT_LEFT": (55.0, (1.5, 0.5, 1.5), 177.2),
    "CAM_FRONT_RIGHT": (-55.0, (1.5, -0.5, 1.5), 177.2),
    "CAM_BACK_LEFT": (110.0, (1.0, 0.5, 1.6), 177.2),
    "CAM_BACK_RIGHT": (-110.0, (1.0, -0.5, 1.6), 177.2),
    "CAM_BACK": (180.0, (0.0, 0.0, 1.6), 113.3),
}

RIG: tuple[Camera, ...] = tuple(
    Camera(channel, math.radians(yaw), translation, focal)
    for channel, (yaw, translation, focal) in ((name, _MOUNTS[name]) for name in CAMERAS)
)
"""The cameras in the order of `task.labels.CAMERAS`."""

LIDAR_TRANSLATION = (0.94, 0.0, 1.84)
LIDAR_QUATERNION: Quaternion = (math.sqrt(0.5), 0.0, 0.0, -math.sqrt(0.5))
"""The lidar looks forward along its y axis: a quarter turn to the right of the ego frame."""
