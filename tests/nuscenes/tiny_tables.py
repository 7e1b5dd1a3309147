"""Writes small nuScenes tables whose every number is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from senna_prune.nuscenes.geometry import Poses
from senna_prune.nuscenes.scene import Scene
from senna_prune.task.labels import CAMERAS

Place = tuple[float, float, float]
"""x, y in metres and yaw in degrees, in the global frame."""

VERSION = "v1.0-mini"
START = 1_500_000_000_000_000
STEP = 500_000
LIDAR_TRANSLATION = [1.0, 0.0, 2.0]
LIDAR_YAW = -90.0  # its x looks right, its y forward


def yaw_quaternion(degrees: float) -> list[float]:
    half = math.radians(degrees) / 2
    return [math.cos(half), 0.0, 0.0, math.sin(half)]


def straight(steps: int, speed: float, yaw: float = 0.0) -> list[Place]:
    """Keyframes of a car that drives straight on at a constant speed in m/s from the origin."""
    heading = math.radians(yaw)
    return [(0.5 * speed * n * math.cos(heading), 0.5 * speed * n * math.sin(heading), yaw) for n in range(steps)]


def arc(steps: int, speed: float, radius: float) -> list[Place]:
    """Keyframes of a car on a circle, to the left for a positive radius, starting along x."""
    turned = [0.5 * speed * n / radius for n in range(steps)]
    return [(radius * math.sin(a), radius * (1 - math.cos(a)), math.degrees(a)) for a in turned]


def make_scene(places: Sequence[Place], can_speed: Sequence[float] | None = None) -> Scene:
    """The arrays of a scene without boxes."""
    translation = np.array([[x, y, 0.0] for x, y, _ in places])
    count = len(places)
    return Scene(
        name="scene-0001",
        token="scene-token",
        tokens=tuple(f"sample-{n}" for n in range(count)),
        timestamps=START + STEP * np.arange(count, dtype=np.int64),
        ego=Poses.from_quaternions(translation, np.array([yaw_quaternion(yaw) for _, _, yaw in places])),
        lidar=Poses.from_quaternions(
            np.tile(LIDAR_TRANSLATION, (count, 1)), np.tile(yaw_quaternion(LIDAR_YAW), (count, 1))
        ),
        images=tuple({camera: f"samples/{camera}/{n}.jpg" for camera in CAMERAS} for n in range(count)),
        boxes=None,
        can_speed=None if can_speed is None else np.array(can_speed),
    )


def write_tables(
    root: Path,
    scenes: Mapping[str, Sequence[Place]],
    objects: Mapping[str, Sequence[tuple[str, Sequence[Place]]]] | None = None,
    version: str = VERSION,
) -> Path:
    """Write the tables of scenes, each a list of ego places, with objects (category, places) by scene.

    Returns `root`.
    """
    tables: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "category", "instance", "sample_annotation")
    }
    channels = ("LIDAR_TOP", *CAMERAS)
    tables["sensor"] = [
        {"token": f"sensor-{c}", "channel": c, "modality": "lidar" if c == "LIDAR_TOP" else "camera"} for c in channels
    ]
    tables["calibrated_sensor"] = [
        {
            "token": f"calibrated-{c}",
            "sensor_token": f"sensor-{c}",
            "translation": LIDAR_TRANSLATION,
            "rotation": yaw_quaternion(LIDAR_YAW),
        }
        for c in channels
    ]
    for name, places in scenes.items():
        tokens = [f"{name}-sample-{n}" for n in range(len(places))]
        tables["scene"].append({"token": f"token-{name}", "name": name, "first_sample_token": tokens[0]})
        for number, (token, (x, y, yaw)) in enumerate(zip(tokens, places, strict=True)):
            tables["sample"].append(
                {
                    "token": token,
                    "timestamp": START + STEP * number,
                    "prev": tokens[number - 1] if number else "",
                    "next": tokens[number + 1] if number + 1 < len(tokens) else "",
                    "scene_token": f"token-{name}",
                }
            )
            pose = {"translation": [x, y, 0.0], "rotation": yaw_quaternion(yaw)}
            for channel in channels:
                data = f"{token}-{channel}"
                suffix = "bin" if channel == "LIDAR_TOP" else "jpg"
                time = START + STEP * number
                tables["ego_pose"].append({"token": f"pose-{data}", "timestamp": time, **pose})
                tables["sample_data"].append(
                    {
                        "token": data,
                        "sample_token": token,
                        "ego_pose_token": f"pose-{data}",
                        "calibrated_sensor_token": f"calibrated-{channel}",
                        "timestamp": time,
                        "is_key_frame": True,
                        "filename": f"samples/{channel}/{name}__{channel}__{time}.{suffix}",
                    }
                )
        for category, box_places in (objects or {}).get(name, ()):
            _add_object(tables, category, tokens, box_places)
    folder = root / version
    folder.mkdir(parents=True)
    for name, records in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(records))
    return root


def _add_object(
    tables: dict[str, list[dict[str, Any]]], category: str, tokens: Sequence[str], places: Sequence[Place]
) -> None:
    instance = f"instance-{len(tables['instance'])}"
    tables["category"].append({"token": f"category-{instance}", "name": category})
    tables["instance"].append({"token": instance, "category_token": f"category-{instance}"})
    for number, (x, y, yaw) in enumerate(places):
        tables["sample_annotation"].append(
            {
                "token": f"{instance}-{number}",
                "sample_token": tokens[number],
                "instance_token": instance,
                "translation": [x, y, 1.0],
                "rotation": yaw_quaternion(yaw),
                "next": f"{instance}-{number + 1}" if number + 1 < len(places) else "",
            }
        )


def edit(root: Path, table: str, change: Callable[[list[dict[str, Any]]], None], version: str = VERSION) -> None:
    """Change one table in place."""
    path = root / version / f"{table}.json"
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))
