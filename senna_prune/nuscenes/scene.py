"""One scene of the tables as arrays: everything labels and questions are computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from senna_prune.errors import TableError
from senna_prune.nuscenes.geometry import Poses
from senna_prune.task.labels import CAMERAS

if TYPE_CHECKING:
    from senna_prune.nuscenes.tables import KeyframeTables

CATEGORY_NAMES: dict[str, str] = {
    "movable_object.barrier": "barrier",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.motorcycle": "motorcycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
}
"""Detection classes of the nuScenes benchmark; other categories keep their full name, as in the reference."""

MAX_COORDINATE = 1e8
"""Metres from a map's origin; the coordinates of no map frame on Earth are larger."""

MAX_STEP = 50.0
"""Metres between two keyframes, which the labels take to be 0.5 s apart: 360 km/h."""


@dataclass(frozen=True)
class Boxes:
    """The annotated boxes of one scene, A of them, keyframe by keyframe in table order.

    Attributes:
        keyframe: number of the keyframe each box belongs to, shape (A,).
        poses: box frames (x forward, y left of the object) in the global frame.
        next: number of the same object's next box, -1 after its last, shape (A,).
        names: class names.
    """

    keyframe: NDArray[np.intp]
    poses: Poses
    next: NDArray[np.intp]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """The N keyframes of one scene in time order.

    Attributes:
        name, token: of the scene.
        tokens: sample tokens.
        timestamps: microseconds, shape (N,).
        ego: ego frames (x forward, y left) in the global frame, at the lidar's time stamps.
        lidar: lidar frames (x right, y forward) in the ego frame.
        images: image path relative to the data root by camera channel; channels without a record are absent.
        boxes: annotated boxes, None if they were not read.
        can_speed: longitudinal CAN-bus velocity in m/s nearest in time, shape (N,), None where the scene has none.
        description: as the scene table gives it; empty where it gives none.
    """

    name: str
    token: str
    tokens: tuple[str, ...]
    timestamps: NDArray[np.int64]
    ego: Poses
    lidar: Poses
    images: tuple[Mapping[str, str], ...]
    boxes: Boxes | None
    can_speed: NDArray[np.float64] | None = None
    description: str = ""

    def __len__(self) -> int:
        return len(self.tokens)


def read_scene(tables: KeyframeTables, record: Mapping[str, Any], boxes: bool) -> Scene:
    """Gather one record of the scene table into arrays, with its annotated boxes or without.

    Raises:
        TableError: a token leads nowhere, time stamps do not increase, a keyframe has no lidar record, a pose is no
            pose, or the car jumps.
    """
    samples = _walk(tables, record)
    lidar_data = [_lidar_record(tables, sample) for sample in samples]
    scene = Scene(
        name=record["name"],
        token=record["token"],
        tokens=tuple(sample["token"] for sample in samples),
        timestamps=np.array([sample["timestamp"] for sample in samples], dtype=np.int64),
        ego=_poses(tables, "ego_pose", [tables.get("ego_pose", data["ego_pose_token"]) for data in lidar_data]),
        lidar=_poses(
            tables,
            "calibrated_sensor",
            [tables.get("calibrated_sensor", data["calibrated_sensor_token"]) for data in lidar_data],
        ),
        images=tuple(
            {
                camera: tables.get("sample_data", sample["data"][camera])["filename"]
                for camera in CAMERAS
                if camera in sample["data"]
            }
            for sample in samples
        ),
        boxes=_boxes(tables, samples) if boxes else None,
        description=told if isinstance(told := record.get("description"), str) and told.isprintable() else "",
    )
    _check_steps(tables, scene)
    return scene


def _check_steps(tables: KeyframeTables, scene: Scene) -> None:
    steps = np.linalg.norm(np.diff(scene.ego.translation, axis=0), axis=1)
    if (steps > MAX_STEP).any():
        number = int((steps > MAX_STEP).argmax())
        problem = (
            f"the car jumps {steps[number]:.0f} m between {scene.tokens[number]!r} and {scene.tokens[number + 1]!r}"
        )
        raise TableError(problem, where=tables.table_path("ego_pose"), hint="keyframes must be 0.5 s apart")


def _walk(tables: KeyframeTables, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    first = tables.get("sample", record["first_sample_token"])
    if first["scene_token"] != record["token"]:
        problem = f"scene {record['token']!r} begins with {first['token']!r} of another scene"
        raise TableError(problem, where=tables.table_path("scene"))
    samples = [first]
    while samples[-1]["next"]:
        following = tables.get("sample", samples[-1]["next"])
        if following["scene_token"] != record["token"]:
            problem = f"{samples[-1]['token']!r} is followed by {following['token']!r} of another scene"
            raise TableError(problem, where=tables.table_path("sample"))
        if following["timestamp"] <= samples[-1]["timestamp"]:
            raise TableError(
                f"time stamps do not increase from {samples[-1]['token']!r} to {following['token']!r}",
                where=tables.table_path("sample"),
            )
        samples.append(following)
    return samples


def _lidar_record(tables: KeyframeTables, sample: Mapping[str, Any]) -> dict[str, Any]:
    if "LIDAR_TOP" not in sample["data"]:
        problem = f"keyframe {sample['token']!r} has no LIDAR_TOP record, whose pose is the ego pose of the labels"
        raise TableError(problem, where=tables.table_path("sample_data"))
    return tables.get("sample_data", sample["data"]["LIDAR_TOP"])


def _boxes(tables: KeyframeTables, samples: Sequence[Mapping[str, Any]]) -> Boxes:
    numbers = [number for number, sample in enumerate(samples) for _ in sample["anns"]]
    records = [tables.get("sample_annotation", token) for sample in samples for token in sample["anns"]]
    place = {record["token"]: number for number, record in enumerate(records)}
    following = []
    for record in records:
        if record["next"] and record["next"] not in place:
            tables.get("sample_annotation", record["next"])  # says so if the token is dangling
            problem = f"annotation {record['token']!r} continues in another scene ({record['next']!r})"
            raise TableError(problem, where=tables.table_path("sample_annotation"))
        following.append(place.get(record["next"], -1))
    keyframe, next_box = np.array(numbers, dtype=np.intp), np.array(following, dtype=np.intp)
    if (backwards := (next_box >= 0) & (keyframe[next_box] <= keyframe)).any():
        record = records[int(backwards.argmax())]
        problem = f"annotation {record['token']!r} is followed by {record['next']!r}, which is no later"
        raise TableError(problem, where=tables.table_path("sample_annotation"))
    return Boxes(
        keyframe=keyframe,
        poses=_poses(tables, "sample_annotation", records),
        next=next_box,
        names=tuple(CATEGORY_NAMES.get(record["category_name"], record["category_name"]) for record in records),
    )


def _poses(tables: KeyframeTables, table_name: str, records: list[dict[str, Any]]) -> Poses:
    """Checked poses of the records of one table."""
    path = tables.table_path(table_name)
    translation, rotation = _numbers(records, "translation", 3, path), _numbers(records, "rotation", 4, path)
    if (wrong := np.abs((rotation**2).sum(axis=1) - 1) > 0.1).any():
        token = records[int(wrong.argmax())]["token"]
        raise TableError(f"the rotation of {token!r} is no unit quaternion", where=path)
    return Poses.from_quaternions(translation, rotation)


def _numbers(records: list[dict[str, Any]], field: str, length: int, path: Path) -> NDArray[np.float64]:
    """One vector field of all records, shape (len(records), length), checked."""
    if not records:
        return np.zeros((0, length))
    try:
        values = np.array([record[field] for record in records])
    except ValueError:  # ragged
        values = np.zeros(())
    # kind: neither texts, which numpy would parse, nor integers that no float holds
    if values.dtype.kind in "fi" and values.shape == (len(records), length) and np.abs(values).max() <= MAX_COORDINATE:
        return values.astype(np.float64)
    for record in records:
        if not _is_vector(record[field], length):
            problem = f"{field} of {record['token']!r} is not {length} numbers of at most {MAX_COORDINATE:g}"
            raise TableError(problem, where=path, hint="unpack the metadata archive again")
    raise AssertionError("a vector was refused that is none too long, too short or too large")


def _is_vector(value: object, length: int) -> bool:
    if not isinstance(value, list) or len(value) != length:
        return False
    return all(type(number) in (int, float) and abs(number) <= MAX_COORDINATE for number in value)
