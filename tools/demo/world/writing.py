"""Writes demo scenes as a nuScenes data root: the devkit's thirteen tables, images, a map mask, a lidar file."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from senna_prune.files import accessing
from tools.demo.world.annotation import box_poses, yaw_quaternion
from tools.demo.world.furniture import Thing
from tools.demo.world.layout import KERB
from tools.demo.world.rendering import render
from tools.demo.world.rig import HEIGHT, LIDAR_QUATERNION, LIDAR_TRANSLATION, RIG, WIDTH, Quaternion
from tools.demo.world.rollout import KEYFRAMES, RENDERED
from tools.demo.world.scenes import DemoScene, make_scene, scene_rng

VERSION = "v1.0-demo"
SPLIT = "demo_val"
JPEG_QUALITY = 80

_START_TIME = 1_700_000_000_000_000
_STEP = 500_000
_MAP_SIZE = 400.0
"""Side of the mapped square, metres; two roads cross in its middle."""
_MAP_RESOLUTION = 0.1
_RUN_UP = 150.0
"""Metres before the crossing at which every scene starts."""
_MAP_FILE = "maps/demo-town.png"
_LIDAR_FILE = "samples/LIDAR_TOP/flat.pcd.bin"
_CATEGORIES = (
    "vehicle.car",
    "vehicle.motorcycle",
    "vehicle.truck",
    "vehicle.emergency.ambulance",
    "human.pedestrian.adult",
    "movable_object.barrier",
)

Record = dict[str, Any]
Vector = tuple[float, float, float]


def encode_jpeg(picture: np.ndarray) -> bytes:
    """One RGB image (H, W, 3) as it is stored."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return buffer.getvalue()


def write_world(
    dataroot: Path, num_scenes: int, world_seed: int, report: Callable[[int, int], None] = lambda done, total: None
) -> list[DemoScene]:
    """Make a data root that the stock devkit opens as `VERSION`.

    Only the second keyframe of each scene has images; the others carry poses, for the displayed speed, the labels and
    the command, and the six after it boxes, for the motion questions. The same arguments give the same bytes.

    Args:
        report: told (scenes done, scenes in all).

    Returns:
        The scenes written.

    Raises:
        FileError: a file cannot be written.
    """
    tables = _fixed_tables(num_scenes)
    scenes = []
    for number in range(num_scenes):
        scene = make_scene(scene_rng(world_seed, number))
        scenes.append(scene)
        _add_scene(tables, scene, number)
        for camera, picture in zip(RIG, render(scene.layout.mesh, scene.layout.light)[0], strict=True):
            _write(dataroot / _picture_name(number, camera.channel), encode_jpeg(picture))
        report(number + 1, num_scenes)
    for name, records in tables.items():
        rows = ",\n".join(json.dumps(record, separators=(",", ":")) for record in records)
        _write(dataroot / VERSION / f"{name}.json", f"[\n{rows}\n]\n".encode())
    splits = {SPLIT: [_scene_name(number) for number in range(num_scenes)]}
    _write(dataroot / VERSION / "splits.json", (json.dumps(splits, separators=(",", ":")) + "\n").encode())
    _write_map(dataroot / _MAP_FILE)
    _write_lidar(dataroot / _LIDAR_FILE)
    return scenes


def _write(path: Path, content: bytes) -> None:
    """Plain writing: thousands of small files that can be made again need no forced flush to the disk each."""
    with accessing(path, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _scene_name(number: int) -> str:
    return f"demo-{number:04d}"


def _picture_name(number: int, channel: str) -> str:
    return f"samples/{channel}/{_scene_name(number)}__{channel}.jpg"


def _fixed_tables(num_scenes: int) -> dict[str, list[Record]]:
    """The tables that do not grow with the scenes, and empty ones for those that do."""
    sensors: list[tuple[str, str, Vector, Quaternion, list[list[float]]]] = [
        ("LIDAR_TOP", "lidar", LIDAR_TRANSLATION, LIDAR_QUATERNION, [])
    ]
    sensors += [(c.channel, "camera", c.translation, c.quaternion, c.intrinsic) for c in RIG]
    return {
        "log": [
            {
                "token": "log",
                "logfile": "demo-world",
                "vehicle": "demo",
                "date_captured": "2026-01-01",
                "location": "demo-town",
            }
        ],
        "map": [{"token": "map", "log_tokens": ["log"], "category": "semantic_prior", "filename": _MAP_FILE}],
        "category": [{"token": name, "name": name, "description": "Drawn by the demo world."} for name in _CATEGORIES],
        "attribute": [{"token": "vehicle.moving", "name": "vehicle.moving", "description": "Vehicle is moving."}],
        "visibility": [{"token": "4", "level": "v80-100", "description": "Visible to 80 % or more."}],
        "sensor": [{"token": name, "channel": name, "modality": kind} for name, kind, *_ in sensors],
        "calibrated_sensor": [
            {
                "token": name,
                "sensor_token": name,
                "translation": list(translation),
                "rotation": [round(part, 9) for part in rotation],
                "camera_intrinsic": intrinsic,
            }
            for name, _, translation, rotation, intrinsic in sensors
        ],
        "scene": [],
        "sample": [],
        "sample_data": [],
        "ego_pose": [],
        "instance": [],
        "sample_annotation": [],
    }


def _add_scene(tables: dict[str, list[Record]], scene: DemoScene, number: int) -> None:
    tokens = [f"s{number:04d}k{keyframe:02d}" for keyframe in range(KEYFRAMES)]
    speed, path = scene.situation.plan
    tables["scene"].append(
        {
            "token": f"s{number:04d}",
            "log_token": "log",
            "nbr_samples": KEYFRAMES,
            "first_sample_token": tokens[0],
            "last_sample_token": tokens[-1],
            "name": _scene_name(number),
            "description": f"{scene.situation.street.road}, expert: {speed.value}, {path.value}",
        }
    )
    poses = _global_poses(scene.poses, number)
    for keyframe, token in enumerate(tokens):
        timestamp = _START_TIME + number * 60_000_000 + keyframe * _STEP
        before = tokens[keyframe - 1] if keyframe else ""
        after = tokens[keyframe + 1] if keyframe + 1 < KEYFRAMES else ""
        tables["sample"].append(
            {"token": token, "timestamp": timestamp, "prev": before, "next": after, "scene_token": f"s{number:04d}"}
        )
        x, y, heading = poses[keyframe]
        tables["ego_pose"].append(
            {
                "token": token,
                "timestamp": timestamp,
                "rotation": yaw_quaternion(heading),
                "translation": [round(x, 4), round(y, 4), 0.0],
            }
        )
        lidar = {"prev": before, "next": after, "fileformat": "pcd", "width": 0, "height": 0, "filename": _LIDAR_FILE}
        tables["sample_data"].append(_sample_data(token, token, "LIDAR_TOP", timestamp, lidar))
        if keyframe == RENDERED:
            for camera in RIG:
                filename = _picture_name(number, camera.channel)
                picture = {"prev": "", "next": "", "fileformat": "jpg", "width": WIDTH, "height": HEIGHT}
                name = f"s{number:04d}{camera.channel}"
                row = _sample_data(name, token, camera.channel, timestamp, {**picture, "filename": filename})
                tables["sample_data"].append(row)
    for index, thing in enumerate(scene.layout.things):
        _add_boxes(tables, f"s{number:04d}b{index}", tokens[RENDERED:], thing, poses[RENDERED])


def _sample_data(token: str, sample: str, channel: str, timestamp: int, rest: Record) -> Record:
    # Images are taken at the keyframe's own time, so they share the lidar's pose.
    shared = {"token": token, "sample_token": sample, "ego_pose_token": sample, "calibrated_sensor_token": channel}
    return {**shared, "timestamp": timestamp, "is_key_frame": True, **rest}


def _add_boxes(tables: dict[str, list[Record]], name: str, samples: list[str], thing: Thing, ego: np.ndarray) -> None:
    """One object, boxed at the rendered keyframe and during the 3 s after it."""
    boxes = box_poses(thing, ego)
    tokens = [f"{name}k{number}" for number in range(len(boxes))]
    tables["instance"].append(
        {
            "token": name,
            "category_token": thing.category,
            "nbr_annotations": len(tokens),
            "first_annotation_token": tokens[0],
            "last_annotation_token": tokens[-1],
        }
    )
    for number, (token, (translation, rotation)) in enumerate(zip(tokens, boxes, strict=True)):
        tables["sample_annotation"].append(
            {
                "token": token,
                "sample_token": samples[number],
                "instance_token": name,
                "visibility_token": "4",
                "attribute_tokens": [],
                "translation": translation,
                "size": [round(value, 3) for value in thing.size],
                "rotation": rotation,
                "prev": tokens[number - 1] if number else "",
                "next": tokens[number + 1] if number + 1 < len(tokens) else "",
                "num_lidar_pts": 0,
                "num_radar_pts": 0,
            }
        )


def _global_poses(poses: np.ndarray, number: int) -> np.ndarray:
    """Ego poses on the map: scenes start on the four arms of the crossing in turn, shape (14, 3)."""
    turn = (number % 4) * math.pi / 2
    cos, sin = math.cos(turn), math.sin(turn)
    x, y = poses[:, 0] - _RUN_UP, poses[:, 1]
    middle = _MAP_SIZE / 2
    return np.stack([middle + x * cos - y * sin, middle + x * sin + y * cos, poses[:, 2] + turn], axis=-1)


def _write_map(path: Path) -> None:
    """The drivable area: two roads that cross; white on black at `_MAP_RESOLUTION`."""
    pixels = round(_MAP_SIZE / _MAP_RESOLUTION)
    band = slice(round((_MAP_SIZE / 2 - KERB) / _MAP_RESOLUTION), round((_MAP_SIZE / 2 + KERB) / _MAP_RESOLUTION))
    mask = np.zeros((pixels, pixels), dtype=np.uint8)
    mask[band] = 255
    mask[:, band] = 255
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG", optimize=True)
    _write(path, buffer.getvalue())


def _write_lidar(path: Path) -> None:
    """A sparse grid of ground points that every keyframe shares: x, y, z, intensity, ring as float32."""
    x, y = np.meshgrid(np.arange(-20.0, 21.0, 4.0), np.arange(-20.0, 21.0, 4.0))
    points = np.zeros((x.size, 5), dtype="<f4")
    points[:, 0], points[:, 1], points[:, 2] = x.ravel(), y.ravel(), -LIDAR_TRANSLATION[2]
    _write(path, points.tobytes())
