"""Drives an expert plan: ego poses at nuScenes' keyframes, from which the converter must read the same plan again.

The label thresholds shape the drive: the speed label compares the step from 0.5 s to 1 s with the one from 2.5 s to 3 s
and wants a difference of 3 m/s; the command is read off the point 6 s ahead, so a car that waits for 3 s must turn
briskly afterwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from senna_prune.nuscenes.behaviour import STEP_SECONDS, command_of, path_labels, speed_labels
from senna_prune.task.labels import Command, Path, Speed
from tools.demo.world.rig import LIDAR_TRANSLATION
from tools.demo.world.sampling import Situation
from tools.demo.world.street import Plan

KEYFRAMES = 14
"""One keyframe before the rendered one (the displayed speed needs it), itself, and twelve after it: 6 s."""
RENDERED = 1
"""Number of the keyframe that has images."""

_TICK = 0.01
_TICKS_PER_STEP = round(STEP_SECONDS / _TICK)
_REACTION = 0.5
"""Seconds during which every plan still drives at the old speed: the displayed speed must not give the plan away."""
_HORIZON = 3.0
_LANE_SHIFT = 4.12
"""Metres: just beyond the 4 m of the labels, so that also a slowing car stays within their 5 degrees."""
_SIDE_ACCELERATION = 8.0
"""m/s^2 at which a turn begins at most."""
_ATTEMPTS = 150


@dataclass(frozen=True)
class _Drive:
    """Parameters of one drive.

    Attributes:
        acceleration: m/s^2 between 0.5 s and 3 s.
        later_acceleration: m/s^2 from 3 s on.
        turn_start: seconds until the steering wheel turns.
        curvature: 1/m, positive to the left; heading: radians turned in all.
        shift: lateral shift of a lane change, metres, positive to the left.
    """

    acceleration: float
    later_acceleration: float
    turn_start: float = 0.0
    curvature: float = 0.0
    heading: float = 0.0
    shift: float = 0.0


def roll_out(situation: Situation, rng: np.random.Generator) -> np.ndarray | None:
    """Ego poses (x, y, heading) at the `KEYFRAMES` keyframes, in the ego frame of the rendered one, shape (14, 3).

    Drives are drawn until the converter's rules read the situation's plan and command off the poses; None if none
    does: a car that drives 30 m straight on before its turn can only be told to `go straight and turn`.
    """
    plan = situation.plan
    for _ in range(_ATTEMPTS):
        poses = _integrate(situation.speed, _sample_drive(rng, situation, plan))
        target = poses[RENDERED + 12]
        command = command_of(float(target[0]), float(target[1]))
        if command == situation.command and read_plan(poses) == plan and read_speed(poses) == int(situation.speed):
            return poses
    return None


def read_plan(poses: np.ndarray) -> Plan:
    """The plan that the converter's labels read off ego poses of shape (14, 3)."""
    future = _lidar_positions(poses)[RENDERED + 1 : RENDERED + 7].astype(np.float32)[None]
    return speed_labels(future)[0], path_labels(future)[0]


def read_speed(poses: np.ndarray) -> int:
    """The displayed speed, m/s: how far the lidar moves from 0.5 s before to 0.5 s after; a tight turn shortens it."""
    moved = _lidar_positions(poses)[RENDERED + 1] - _lidar_positions(poses)[RENDERED - 1]
    return int(np.linalg.norm(moved))


def _lidar_positions(poses: np.ndarray) -> np.ndarray:
    """Positions of the lidar in its own frame at the rendered keyframe (x right, y forward), shape (14, 2)."""
    ahead = LIDAR_TRANSLATION[0]
    x = poses[:, 0] + ahead * np.cos(poses[:, 2]) - ahead
    y = poses[:, 1] + ahead * np.sin(poses[:, 2])
    return np.stack([-y, x], axis=-1)


def _sample_drive(rng: np.random.Generator, situation: Situation, plan: Plan) -> _Drive:
    pace, path = plan
    acceleration = {
        Speed.KEEP: float(rng.uniform(-0.25, 0.25)),
        Speed.ACCELERATE: float(rng.uniform(1.75, 2.6)),
        Speed.DECELERATE: -float(rng.uniform(1.7, 2.05)),
        Speed.STOP: -float(rng.uniform(1.0, 2.0)),
    }[pace]
    to_left = situation.command in (Command.LEFT, Command.STRAIGHT_LEFT)
    sign = 1.0 if to_left else -1.0
    later = float(rng.uniform(-1.0, 4.0))
    if situation.command == Command.STRAIGHT:
        shift = {Path.LEFT_CHANGE: _LANE_SHIFT, Path.RIGHT_CHANGE: -_LANE_SHIFT}.get(path, 0.0)
        return _Drive(acceleration, float(rng.uniform(-0.5, 0.5)) if pace != Speed.STOP else 0.0, shift=shift)
    turning_now = path in (Path.LEFT_TURN, Path.RIGHT_TURN)
    tightest = max(4.5, situation.speed**2 / _SIDE_ACCELERATION) if turning_now else 4.5
    return _Drive(
        acceleration,
        later,
        turn_start=0.0 if turning_now else _HORIZON,
        curvature=sign / float(rng.uniform(tightest, 22.0)),
        heading=math.radians(float(rng.uniform(35.0, 110.0))),
    )


def _integrate(speed: float, drive: _Drive) -> np.ndarray:
    """Poses (x, y, heading) at the keyframes, shape (14, 3)."""
    ticks = np.arange((KEYFRAMES - 1 - RENDERED) * _TICKS_PER_STEP) * _TICK + _TICK / 2
    ramp = np.clip(ticks - _REACTION, 0.0, _HORIZON - _REACTION)
    later = np.clip(ticks - _HORIZON, 0.0, None)
    pace = np.maximum(np.maximum(speed + drive.acceleration * ramp, 0.0) + drive.later_acceleration * later, 0.0)
    steering = np.where(ticks >= drive.turn_start, drive.curvature * pace * _TICK, 0.0)
    heading = np.clip(np.cumsum(steering), -drive.heading, drive.heading)
    x = np.cumsum(np.cos(heading) * pace * _TICK)
    y = np.cumsum(np.sin(heading) * pace * _TICK)
    if drive.shift:
        progress = np.clip(ticks / (_HORIZON - 0.1), 0.0, 1.0)
        y = y + drive.shift * progress**2 * (3 - 2 * progress)
        sideways = drive.shift * 6 * progress * (1 - progress) / (_HORIZON - 0.1)
        heading = heading + np.arctan2(sideways, np.maximum(pace, 1.0))
    now = slice(_TICKS_PER_STEP - 1, None, _TICKS_PER_STEP)
    driven = np.stack([x, y, heading], axis=-1)[now]
    before = [[-speed * STEP_SECONDS * (RENDERED - number), 0.0, 0.0] for number in range(RENDERED)]
    return np.concatenate([before, [[0.0, 0.0, 0.0]], driven])
