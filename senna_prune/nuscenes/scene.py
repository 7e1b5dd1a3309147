"""One scene of the tables as arrays: everything labels and questions are computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from senna_prune.errors import TableError
from senna_prune.nuscenes.behaviour import STEP_SECONDS
from senna_prune.nuscenes.camera_views import CameraViews, read_views
from senna_prune.nuscenes.geometry import Poses
from senna_prune.nuscenes.schema import (
    Annotation,
    CalibratedSensor,
    Category,
    EgoPose,
    Instance,
    Sample,
    SampleData,
    SceneRecord,
    Visibility,
)
from senna_prune.nuscenes.steps import MAX_JITTER, wrong_step
from senna_prune.nuscenes.tables import KeyframeTables
from senna_prune.task.labels import CAMERAS

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

VISIBILITY = {"v0-40": 1, "v40-60": 2, "v60-80": 3, "v80-100": 4}

MAX_STEP = 50.0
"""Metres between two keyframes: 360 km/h."""

MAX_LEFT_OUT = 0.2
"""Share of an object's annotations that may leave out keyframes; the labels, as the reference, take them to be 0.5 s
apart nevertheless. On v1.0-mini four of 18,532 do."""

MAX_OFFSET = 250_000
"""Microseconds between a keyframe and what its sensors recorded; on v1.0-mini 49 ms at most."""


@dataclass(frozen=True)
class Boxes:
    """The annotated boxes of one scene, A of them, keyframe by keyframe in table order.

    Attributes:
        keyframe: number of the keyframe each box belongs to, shape (A,).
        poses: box frames (x forward, y left of the object) in the global frame.
        next: number of the same object's next box, -1 after its last, shape (A,).
        names: class names.
        instances: tokens of the objects.
        sizes: length, width and height, metres, shape (A, 3); NaN where the table has none.
        visibility: 1 (up to 40 % visible) to 4 (above 80 %), None where the tables do not say.
    """

    keyframe: NDArray[np.intp]
    poses: Poses
    next: NDArray[np.intp]
    names: tuple[str, ...]
    instances: tuple[str, ...] = ()
    sizes: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))
    visibility: tuple[int | None, ...] = ()


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
        views: cameras by channel, None if they were not read.
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
    views: Mapping[str, CameraViews] | None = None

    def __len__(self) -> int:
        return len(self.tokens)


def read_scene(tables: KeyframeTables, record: SceneRecord, boxes: bool, views: bool = False) -> Scene:
    """Gather one record of the scene table into arrays, with its annotated boxes and cameras or without.

    Raises:
        TableError: a token leads nowhere, keyframes do not follow each other every 0.5 s, a keyframe has no lidar
            record, a pose is no pose, or the car jumps.
    """
    samples = _walk(tables, record)
    _check_times(tables, record.name, samples)
    lidar = [_lidar_record(tables, sample) for sample in samples]
    scene = Scene(
        name=record.name,
        token=record.token,
        tokens=tuple(sample.token for sample in samples),
        timestamps=np.array([sample.timestamp for sample in samples], dtype=np.int64),
        ego=tables.poses([tables.get(EgoPose, one.ego_pose_token) for one in lidar]),
        lidar=tables.poses([tables.get(CalibratedSensor, one.calibrated_sensor_token) for one in lidar]),
        images=tuple(
            {camera: data[camera].filename for camera in CAMERAS if camera in data}
            for data in (tables.data[sample.token] for sample in samples)
        ),
        boxes=_boxes(tables, samples) if boxes else None,
        description=record.description,
        views={camera: read_views(tables, samples, camera) for camera in CAMERAS} if views else None,
    )
    if views and scene.boxes is not None and (unsized := np.isnan(scene.boxes.sizes).any(axis=1)).any():
        problem = f"an annotation of {scene.boxes.instances[int(unsized.argmax())]!r} has no size"
        raise TableError(problem, where=tables.path(Annotation))
    _check_jumps(tables, scene)
    return scene


def _check_times(tables: KeyframeTables, name: str, samples: Sequence[Sample]) -> None:
    """Keyframes follow each other every 0.5 s, and what belongs to one was recorded then."""
    seconds = np.diff([sample.timestamp for sample in samples]) / 1e6
    if (step := wrong_step(seconds)) is not None:
        problem = f"the keyframes of {name} are {step:.3g} s apart, not {STEP_SECONDS} s as the labels take it"
        raise TableError(problem, where=tables.path(Sample), hint="keep keyframes every 0.5 s")
    if (off := np.abs(seconds - STEP_SECONDS) > MAX_JITTER).any():
        number = int(off.argmax())
        pair = f"between {samples[number].token!r} and {samples[number + 1].token!r} of {name}"
        problem = f"{seconds[number]:.2f} s lie {pair}, not {STEP_SECONDS} s"
        raise TableError(problem, where=tables.path(Sample), hint="leave such scenes out with --scenes")
    for sample in samples:
        pose = tables.get(EgoPose, _lidar_record(tables, sample).ego_pose_token)
        records: list[SampleData | EgoPose] = [*tables.data[sample.token].values(), pose]
        for record in records:
            late = 0 if record.timestamp is None else record.timestamp - sample.timestamp
            if abs(late) > MAX_OFFSET:
                problem = f"the time of {record.token!r} is {late / 1e6:+.2f} s from its keyframe {sample.token!r}"
                raise TableError(problem, where=tables.path(type(record)))


def _check_jumps(tables: KeyframeTables, scene: Scene) -> None:
    metres = np.linalg.norm(np.diff(scene.ego.translation, axis=0), axis=1)
    if (metres > MAX_STEP).any():
        number = int((metres > MAX_STEP).argmax())
        pair = f"{scene.tokens[number]!r} and {scene.tokens[number + 1]!r}"
        problem = f"the car jumps {metres[number]:.0f} m between {pair}"
        raise TableError(problem, where=tables.path(EgoPose), hint="keyframes must be 0.5 s apart")


def _walk(tables: KeyframeTables, record: SceneRecord) -> list[Sample]:
    """The keyframes of a scene, along the chain of their `next`."""
    samples = [tables.get(Sample, record.first_sample_token)]
    if samples[0].scene_token != record.token:
        problem = f"scene {record.token!r} begins with {samples[0].token!r} of another scene"
        raise TableError(problem, where=tables.path(SceneRecord))
    while samples[-1].next:
        last, following = samples[-1], tables.get(Sample, samples[-1].next)
        if following.scene_token != record.token:
            problem = f"{last.token!r} is followed by {following.token!r} of another scene"
            raise TableError(problem, where=tables.path(Sample))
        if following.timestamp <= last.timestamp:
            problem = f"time stamps do not increase from {last.token!r} to {following.token!r}"
            raise TableError(problem, where=tables.path(Sample))
        samples.append(following)
    for table, stated in ((SceneRecord, record.nbr_samples), (Sample, tables.samples_of[record.token])):
        if stated not in (None, len(samples)):
            problem = f"scene {record.token!r} has {stated} keyframes here, {len(samples)} by following `next`"
            raise TableError(problem, where=tables.path(table))
    return samples


def _lidar_record(tables: KeyframeTables, sample: Sample) -> SampleData:
    if "LIDAR_TOP" not in tables.data[sample.token]:
        problem = f"keyframe {sample.token!r} has no LIDAR_TOP record, whose pose is the ego pose of the labels"
        raise TableError(problem, where=tables.path(SampleData))
    return tables.data[sample.token]["LIDAR_TOP"]


def _boxes(tables: KeyframeTables, samples: Sequence[Sample]) -> Boxes:
    records = [box for sample in samples for box in tables.annotations[sample.token]]
    numbers = [number for number, sample in enumerate(samples) for _ in tables.annotations[sample.token]]
    categories = (tables.get(Instance, record.instance_token).category_token for record in records)
    names = [tables.get(Category, category).name for category in categories]
    place = {record.token: number for number, record in enumerate(records)}
    following = []
    for record in records:
        if record.next and record.next not in place:
            tables.get(Annotation, record.next)  # says so if the token is dangling
            problem = f"annotation {record.token!r} continues in another scene ({record.next!r})"
            raise TableError(problem, where=tables.path(Annotation))
        following.append(place.get(record.next, -1))
        if record.next and records[following[-1]].instance_token != record.instance_token:
            problem = f"annotation {record.token!r} is followed by {record.next!r} of another instance"
            raise TableError(problem, where=tables.path(Annotation))
    keyframe, next_box = np.array(numbers, dtype=np.intp), np.array(following, dtype=np.intp)
    if (backwards := (next_box >= 0) & (keyframe[next_box] <= keyframe)).any():
        record = records[int(backwards.argmax())]
        problem = f"annotation {record.token!r} is followed by {record.next!r}, which is no later"
        raise TableError(problem, where=tables.path(Annotation))
    apart = (keyframe[next_box] - keyframe)[next_box >= 0]
    if (apart > 1).sum() > MAX_LEFT_OUT * len(apart):
        problem = (
            f"annotations of {samples[0].scene_token!r} follow each other every {apart.mean():.2g} keyframes, not each"
        )
        raise TableError(
            problem, where=tables.path(Annotation), hint="annotate every keyframe, or ask for --kinds plan"
        )
    levels = {one.token: VISIBILITY.get(one.level) for one in tables.all(Visibility)}
    return Boxes(
        keyframe=keyframe,
        poses=tables.poses(records),
        next=next_box,
        names=tuple(CATEGORY_NAMES.get(name, name) for name in names),
        instances=tuple(record.instance_token for record in records),
        # nuScenes says width, length, height
        sizes=np.array([record.size or (np.nan,) * 3 for record in records]).reshape(-1, 3)[:, [1, 0, 2]],
        visibility=tuple(levels.get(record.visibility_token or "") for record in records),
    )
