"""The reference's labelling rules: meta-action of a 3 s trajectory, navigation command, the view that shows an object.

Positions are metres in a lidar-like frame (x right, y forward) unless said otherwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from senna_prune.task.labels import Command, Path, Speed

STEP_SECONDS = 0.5
"""Nominal time between keyframes. The labels use it instead of the time stamps, which are up to 100 ms off."""

FUTURE_STEPS = 6
"""Steps of the labelled future: 3 s."""

HORIZON_STEPS = 12
"""Keyframes to a command's target: 6 s. Where the scene ends before, its last keyframe stands in."""

FAR = 20.0
"""Metres along the first axis from which on a turn is announced as `go straight and turn ...`."""

ASIDE = 10.0
"""Metres along the second axis from which on the command is a turn."""

MAX_JITTER = 0.25
"""Seconds that one step may be off; on v1.0-mini steps take 0.40 to 0.60 s."""

MAX_MEDIAN_OFF = 0.05
"""Seconds that the median of three or more steps may be off; on v1.0-mini it is 0.0002 s off."""

STOP_SPEED = 2.0
"""m/s; STOP if no step is faster."""

SPEED_CHANGE = 3.0
"""m/s between the first and the last step from which on it is ACCELERATE or DECELERATE."""

LATERAL_SHIFT = 4.0
"""Metres to one side at the end point from which on the path is not STRAIGHT."""

TURN_ANGLE = 5.0
"""Degrees of the end point from straight ahead from which on a shift is a turn, below it a lane change."""

VIEWS = ("front", "front right", "front left", "back", "back left", "back right")
"""Views in the order in which the reference asks about them."""

_SECTOR_ENDS = (-125.0, -55.0, 0.0, 55.0, 125.0, 180.0)
"""Degrees from x (right) towards y (forward). Where two cameras overlap the reference takes the first that sees the
object of front, front left, back left, front right, back right, back; these are the sectors that remain."""

_SECTORS = ("back left", "back", "back right", "front right", "front", "front left", "back left")
_VIEW_OF_SECTOR = np.array([VIEWS.index(view) for view in _SECTORS])


def speed_labels(trajectories: NDArray[np.float32]) -> list[Speed]:
    """Longitudinal meta-actions of trajectories, shape (M, 6, 2), one point every 0.5 s, the first at 0.5 s.

    The first step is the one from 0.5 s to 1 s: where the object is now does not count.
    """
    velocity = np.linalg.norm(np.diff(trajectories, axis=1), axis=-1) / STEP_SECONDS
    change = velocity[:, -1] - velocity[:, 0]
    conditions = [velocity.max(axis=1) < STOP_SPEED, change >= SPEED_CHANGE, change <= -SPEED_CHANGE]
    codes = np.select(conditions, [0, 1, 2], default=3)
    order = (Speed.STOP, Speed.ACCELERATE, Speed.DECELERATE, Speed.KEEP)
    return [order[code] for code in codes]


def path_labels(trajectories: NDArray[np.float32]) -> list[Path]:
    """Lateral meta-actions of trajectories, shape (M, 6, 2): they depend on the end point alone.

    An end point behind and to the left lies more than 180 degrees from ahead and is STRAIGHT, as in the reference.
    """
    x, y = np.moveaxis(trajectories[:, -1].astype(np.float64), -1, 0)
    angle = np.degrees(np.arctan2(y, x)) - 90.0
    right, left, ahead = x > LATERAL_SHIFT, x <= -LATERAL_SHIFT, np.abs(angle) < TURN_ANGLE
    conditions = [right & (angle <= -TURN_ANGLE), right & ahead, left & (angle >= TURN_ANGLE), left & ahead]
    codes = np.select(conditions, [0, 1, 2, 3], default=4)
    order = (Path.RIGHT_TURN, Path.RIGHT_CHANGE, Path.LEFT_TURN, Path.LEFT_CHANGE, Path.STRAIGHT)
    return [order[code] for code in codes]


def view_numbers(points: NDArray[np.float64]) -> NDArray[np.intp]:
    """Numbers within `VIEWS` of the views in which points, shape (M, 2), are asked about."""
    angle = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    return _VIEW_OF_SECTOR[np.digitize(angle, _SECTOR_ENDS)]


def command_of(x: float, y: float) -> Command:
    """Command for a target point, metres; under `corrected` x is forward and y left.

    A U-turn narrower than `ASIDE` metres reads `go straight`: the thresholds are the reference's.
    """
    if abs(y) < ASIDE:
        return Command.STRAIGHT
    if x >= FAR:
        return Command.STRAIGHT_LEFT if y > 0 else Command.STRAIGHT_RIGHT
    return Command.LEFT if y > 0 else Command.RIGHT


def wrong_step(seconds: NDArray[np.float64]) -> float | None:
    """The time between keyframes if it is not 0.5 s.

    Args:
        seconds: steps between successive keyframes, shape (N,). Where keyframes are left out a step counts as several:
            only those up to one and a half times the shortest tell.
    """
    if not len(seconds):
        return None
    told = seconds[seconds < 1.5 * seconds.min()]
    step = float(np.median(told))
    return step if abs(step - STEP_SECONDS) > (MAX_MEDIAN_OFF if len(told) > 2 else MAX_JITTER) else None
