"""The speed shown in a question: from the CAN bus, or from how far the car moved between keyframes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from senna_prune.errors import TableError
from senna_prune.nuscenes.behaviour import STEP_SECONDS
from senna_prune.nuscenes.navigation import future_origins
from senna_prune.nuscenes.scene import Scene

SpeedSource = Literal["auto", "can_bus", "past"]
"""`auto`: CAN bus where the scene has it, else the displacement from 0.5 s before to 0.5 s after (the reference's rule,
which looks into the future). `can_bus`: CAN bus alone. `past`: displacement since the last keyframe alone."""

SpeedOrigin = Literal["can_bus", "displacement", "past"]
"""Where the speed of one scene comes from; `displacement` is what `auto` falls back to and looks into the future."""


def can_bus_speed(folder: Path, scene_name: str, timestamps: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Longitudinal velocity in m/s of the CAN-bus message nearest in time to every time stamp, shape (N,).

    Args:
        folder: the CAN bus expansion (`can_bus/` beside `samples/`); 21 scenes of nuScenes have no messages.

    Returns:
        None if the scene has no messages.

    Raises:
        TableError: the scene's messages are not what the expansion holds.
    """
    path = folder / f"{scene_name}_pose.json"
    if not path.is_file():
        return None
    try:
        messages = json.loads(path.read_text(encoding="utf-8"))
        times = np.array([message["utime"] for message in messages], dtype=np.int64)
        velocity = np.array([message["vel"][0] for message in messages], dtype=np.float64)
    except (OSError, ValueError, OverflowError, KeyError, TypeError, IndexError) as error:
        problem = f"not a list of CAN-bus poses with utime and vel ({error!r})"
        raise TableError(problem, where=path, hint="unpack the CAN bus expansion again") from error
    if not len(times):
        return None
    if velocity.ndim != 1 or not np.isfinite(velocity).all() or (np.diff(times) < 0).any():
        raise TableError("CAN-bus velocities are not finite numbers in time order", where=path)
    after = np.clip(np.searchsorted(times, timestamps), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    return velocity[np.where(np.abs(timestamps - times[before]) < np.abs(times[after] - timestamps), before, after)]


def speed_origin(scene: Scene, source: SpeedSource) -> SpeedOrigin | None:
    """Where a source takes the scene's speed from; None if it has none for this scene."""
    if source == "past":
        return "past"
    if scene.can_speed is not None:
        return "can_bus"
    return "displacement" if source == "auto" else None


def shown_speeds(scene: Scene, source: SpeedSource) -> NDArray[np.float64]:
    """Speed in whole m/s (cut off, not rounded) at every keyframe, shape (N,); NaN where the source has none."""
    origin = speed_origin(scene, source)
    if origin == "past":
        speeds = _past(scene)
    elif origin == "displacement":
        speeds = _around(scene)
    elif scene.can_speed is not None:
        speeds = scene.can_speed
    else:
        speeds = np.full(len(scene), np.nan)
    return np.trunc(speeds.astype(np.float32)).astype(np.float64)  # the reference keeps it in single precision


def _around(scene: Scene) -> NDArray[np.float64]:
    """Displacement over the 1 s around each keyframe; the scene's first step counts twice, its last once."""
    origins = scene.ego.to_parent(scene.lidar.translation)
    steps = np.diff(future_origins(scene, 1, origins), axis=1)[:, 0]
    both = steps + np.concatenate([steps[:1], steps[:-1]])
    return np.linalg.norm(scene.lidar.turn_from_parent(scene.ego.turn_from_parent(both))[:, :2], axis=1)


def _past(scene: Scene) -> NDArray[np.float64]:
    """Displacement since the keyframe before, none at the scene's first."""
    origins = scene.ego.to_parent(scene.lidar.translation)
    moved = np.linalg.norm(np.diff(origins[:, :2], axis=0), axis=1)
    return np.concatenate([[np.nan], moved / STEP_SECONDS])
