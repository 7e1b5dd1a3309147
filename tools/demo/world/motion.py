"""How the things of a demo street move during the 3 s that nuScenes' motion questions look ahead."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from senna_prune.nuscenes.behaviour import FUTURE_STEPS, STEP_SECONDS

Pace = Literal["steady", "braking", "hurrying"]
_ACCELERATIONS: dict[Pace, float] = {"steady": 0.0, "braking": -2.0, "hurrying": 2.0}
"""m/s^2. The labels look at what changes in 2 s and want 3 m/s, so 2 m/s^2 is ACCELERATE or DECELERATE."""
_SPEEDS: dict[str, tuple[float, float]] = {"city": (6.0, 11.0), "truck": (13.0, 17.0), "highway": (19.0, 25.0)}
"""m/s; a lane change needs 18 for its end point to stay within 5 degrees of straight ahead."""
_TICK = 0.05
_SHIFT_SECONDS = 2.9
_QUARTER_TURN = math.pi / 2


@dataclass(frozen=True, slots=True)
class Motion:
    """A motion that starts straight ahead along x.

    Attributes:
        speed: m/s at the rendered keyframe. acceleration: m/s^2; nothing drives backwards.
        curvature: 1/m, positive to the left, for at most a quarter turn.
        shift: metres to the left, reached within 2.9 s.
    """

    speed: float = 0.0
    acceleration: float = 0.0
    curvature: float = 0.0
    shift: float = 0.0

    def poses(self) -> np.ndarray:
        """x, y, heading relative to the start, at the rendered keyframe and six steps of 0.5 s, shape (7, 3)."""
        times = np.arange(round(FUTURE_STEPS * STEP_SECONDS / _TICK)) * _TICK + _TICK / 2
        pace = np.maximum(self.speed + self.acceleration * times, 0.0)
        heading = np.clip(np.cumsum(self.curvature * pace * _TICK), -_QUARTER_TURN, _QUARTER_TURN)
        x, y = np.cumsum(np.cos(heading) * pace * _TICK), np.cumsum(np.sin(heading) * pace * _TICK)
        progress = np.clip(times / _SHIFT_SECONDS, 0.0, 1.0)
        y = y + self.shift * progress**2 * (3 - 2 * progress)
        per_step = round(STEP_SECONDS / _TICK)
        return np.concatenate([np.zeros((1, 3)), np.stack([x, y, heading], axis=-1)[per_step - 1 :: per_step]])

    def mirrored(self) -> Motion:
        return replace(self, curvature=-self.curvature, shift=-self.shift)


STANDING = Motion()


def drive_on(rng: np.random.Generator, where: Literal["city", "highway", "truck"], pace: Pace = "steady") -> Motion:
    """Straight on at a speed that fits the road."""
    return Motion(float(rng.uniform(*_SPEEDS[where])), _ACCELERATIONS[pace])


def turn_off(rng: np.random.Generator, sign: int) -> Motion:
    """Into a side street at city speed; `sign` is 1 to the left, -1 to the right."""
    return Motion(float(rng.uniform(6.0, 8.0)), curvature=sign / float(rng.uniform(6.0, 9.0)))


def change_lanes(rng: np.random.Generator, sign: int, lane: float) -> Motion:
    """To the next lane at highway speed, over `lane` metres."""
    return Motion(float(rng.uniform(*_SPEEDS["highway"])), shift=sign * lane)
