"""What a caller hands to the `Planner`, checked: cameras, speed and command."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real

from senna_prune.errors import InputError, nearest_of
from senna_prune.pictures import Picture
from senna_prune.task.labels import CAMERAS, Command
from senna_prune.task.prompts import planning_question


def views_in_order(images: Mapping[str, Picture], cameras: Sequence[str]) -> list[Picture]:
    """The six pictures in the order of `cameras`.

    Raises:
        InputError: not a mapping of exactly the six camera channels.
    """
    if not isinstance(images, Mapping):
        raise InputError(
            f"a {type(images).__name__} does not say which picture is whose",
            where="images",
            hint="pass a mapping of camera channels to pictures",
        )
    if missing := [camera for camera in CAMERAS if camera not in images]:
        raise InputError(f"no picture of {', '.join(missing)}", where="images", hint="pass all six cameras")
    if unknown := [camera for camera in images if camera not in CAMERAS]:
        raise InputError(f"unknown camera {unknown[0]!r}", where="images", hint=f"use {', '.join(CAMERAS)}")
    return [images[camera] for camera in cameras]


def checked_question(speed: float, command: Command | str) -> str:
    """The planning question.

    Args:
        speed: ego speed, m/s.
        command: navigation command.

    Raises:
        InputError: a speed that is not a finite number of 0 or more, or an unknown command.
    """
    if isinstance(speed, bool) or not isinstance(speed, Real) or not math.isfinite(speed) or speed < 0:
        raise InputError(f"{speed!r} is not a speed in m/s", where="speed", hint="pass a finite number, 0 or more")
    known = [known.value for known in Command]
    if not isinstance(command, str) or command not in known:
        raise InputError(f"unknown command {command!r}", where="command", hint=nearest_of(str(command), known))
    return planning_question(float(speed), Command(command).value)
