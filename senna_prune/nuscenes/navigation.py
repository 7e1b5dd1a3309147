"""The navigation command of a keyframe, from where the car is six seconds later."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from senna_prune.nuscenes.scene import Scene
from senna_prune.task.labels import CameraOrder, Command

HORIZON_STEPS = 12
"""Keyframes ahead: 6 s. Where the scene ends before, its last keyframe stands in, under both conventions."""

FAR = 20.0
"""Metres along the first axis from which on a turn is announced as `go straight and turn ...`."""

ASIDE = 10.0
"""Metres along the second axis from which on the command is a turn."""


def future_origins(scene: Scene, steps: int, origin: NDArray[np.float64]) -> NDArray[np.float64]:
    """Global positions of a point of the car now and at the next `steps` keyframes, shape (N, steps + 1, 3).

    Args:
        origin: the point in the global frame at every keyframe, shape (N, 3). The last one is repeated past the end.
    """
    keyframes = np.arange(len(scene))[:, None] + np.arange(steps + 1)
    return origin[np.minimum(keyframes, len(scene) - 1)]


def lidar_future(scene: Scene, steps: int) -> NDArray[np.float64]:
    """Lidar positions now and at the next keyframes in the lidar frame of now (x right, y forward).

    Shape (N, steps + 1, 2), metres.
    """
    positions = future_origins(scene, steps, scene.ego.to_parent(scene.lidar.translation))
    return scene.lidar.from_parent(scene.ego.from_parent(positions))[..., :2]


def commands(scene: Scene, convention: CameraOrder) -> list[Command]:
    """Navigation command of every keyframe.

    `corrected` applies the thresholds to the ego position six seconds on in the ego frame (x forward, y left), which is
    what they mean. `upstream` applies them to the lidar frame (x right, y forward), as the released converter does:
    there, driving straight on for ten metres reads `turn left`.
    """
    if convention == "corrected":
        targets = scene.ego.from_parent(future_origins(scene, HORIZON_STEPS, scene.ego.translation))[:, -1, :2]
    else:
        targets = lidar_future(scene, HORIZON_STEPS)[:, -1]
    return [command_of(float(x), float(y)) for x, y in targets]


def command_of(x: float, y: float) -> Command:
    """Command for a target point, metres; under `corrected` x is forward and y left.

    A U-turn narrower than `ASIDE` metres reads `go straight`: the thresholds are the reference's.
    """
    if abs(y) < ASIDE:
        return Command.STRAIGHT
    if x >= FAR:
        return Command.STRAIGHT_LEFT if y > 0 else Command.STRAIGHT_RIGHT
    return Command.LEFT if y > 0 else Command.RIGHT
