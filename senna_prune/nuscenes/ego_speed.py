"""The speed shown in a question, from the CAN bus or from the distance between keyframes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from senna_prune.errors import TableError
from senna_prune.files import accessing, read_json
from senna_prune.nuscenes.behaviour import STEP_SECONDS
from senna_prune.nuscenes.scene import Scene
from senna_prune.nuscenes.schema import LAST_TIME

SpeedSource = Literal["auto", "can_bus", "past"]
"""`auto`: CAN bus where the scene has it, else the displacement from 0.5 s before to 0.5 s after (the reference's rule,
which looks into the future). `can_bus`: CAN bus alone. `past`: displacement since the last keyframe alone."""

SpeedOrigin = Literal["can_bus", "displacement", "past"]
"""Where the speed of one scene comes from; `displacement` is what `auto` falls back to and looks into the future."""

MAX_SPEED = 100.0
"""m/s; a faster CAN-bus velocity is none of a car."""

MAX_WAIT = 1_000_000
"""Microseconds from a keyframe to the nearest CAN-bus message; they come 50 times a second."""


def can_bus_speed(folder: Path, scene_name: str, timestamps: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Longitudinal velocity in m/s of the CAN-bus message nearest in time to every time stamp, shape (N,).

    Args:
        folder: the CAN bus expansion (`can_bus/` beside `samples/`); 21 scenes of nuScenes have no messages.

    Returns:
        None if the scene has no messages.

    Raises:
        TableError: the scene's messages are not what the expansion holds, or of another time.
    """
    path = folder / f"{scene_name}_pose.json"
    hint = "unpack the CAN bus expansion again, or use --speed-source past"
    with accessing(path, "read", error=TableError):
        if not path.exists():
            return None
    messages = read_json(path, list, hint=hint, error=TableError)
    try:
        times = np.array([message["utime"] for message in messages], dtype=np.int64)
        velocity = np.array([message["vel"][0] for message in messages], dtype=np.float64)
    except (ValueError, OverflowError, KeyError, TypeError, IndexError) as error:
        problem = f"not a list of CAN-bus poses with utime and vel ({error!r})"
        raise TableError(problem, where=path, hint=hint) from error
    if not len(times):
        return None
    if velocity.ndim != 1 or not (np.abs(velocity) <= MAX_SPEED).all():
        raise TableError(f"CAN-bus velocities are not numbers of at most {MAX_SPEED:g} m/s", where=path, hint=hint)
    if times[0] < 0 or times[-1] >= LAST_TIME or (np.diff(times) < 0).any():
        raise TableError("CAN-bus messages are not in time order", where=path, hint=hint)
    after = np.clip(np.searchsorted(times, timestamps), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(np.abs(timestamps - times[before]) < np.abs(times[after] - timestamps), before, after)
    wait = np.abs(times[nearest] - timestamps)
    if (late := wait > MAX_WAIT).any():
        number = int(late.argmax())
        keyframe = f"keyframe {number} (time stamp {timestamps[number]})"
        problem = f"the nearest message is {wait[number] / 1e6:.1f} s from {keyframe}"
        raise TableError(problem, where=path, hint=hint)
    return velocity[nearest]


def speed_origin(scene: Scene, source: SpeedSource) -> SpeedOrigin | None:
    """Where a source takes the scene's speed from; None if it has none for this scene."""
    if source == "past":
        return "past"
    if scene.can_speed is not None:
        return "can_bus"
    return "displacement" if source == "auto" else None


def shown_speeds(scene: Scene, source: SpeedSource) -> NDArray[np.float64]:
    """Speed in whole m/s (cut off, not rounded) at every keyframe, shape (N,); NaN where the source has none."""
    origin, origins, unknown = speed_origin(scene, source), scene.lidar_origins(), np.full(len(scene), np.nan)
    if origin == "past":  # the displacement since the keyframe before, none at the scene's first
        moved = np.linalg.norm(np.diff(origins[:, :2], axis=0), axis=1)
        speeds = np.concatenate([unknown[:1], moved / STEP_SECONDS])
    elif origin == "displacement":  # over the 1 s around; the scene's first step counts twice, its last once
        steps = np.diff(scene.future(1, origins), axis=1)[:, 0]
        both = steps + np.concatenate([steps[:1], steps[:-1]])
        speeds = np.linalg.norm(scene.lidar.turn_from_parent(scene.ego.turn_from_parent(both))[:, :2], axis=1)
    else:
        speeds = unknown if scene.can_speed is None or origin is None else scene.can_speed
    return np.trunc(speeds.astype(np.float32)).astype(np.float64)  # the reference keeps it in single precision
