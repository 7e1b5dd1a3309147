"""One scene of the tables as arrays: everything labels and questions are computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from senna_prune.errors import TableError
from senna_prune.files import accessing
from senna_prune.image_files import open_image
from senna_prune.nuscenes import schema
from senna_prune.nuscenes.behaviour import MAX_JITTER, STEP_SECONDS, wrong_step
from senna_prune.nuscenes.geometry import CameraViews, Poses
from senna_prune.nuscenes.schema import EgoPose, Sample, SampleData, SceneRecord
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

    def future(self, steps: int, origins: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions of a point of the car now and at the next `steps` keyframes, shape (N, steps + 1, 3).

        Args:
            origins: the point in the global frame at every keyframe, shape (N, 3). Past the end the last is repeated.
        """
        keyframes = np.arange(len(self))[:, None] + np.arange(steps + 1)
        return origins[np.minimum(keyframes, len(self) - 1)]

    def lidar_origins(self) -> NDArray[np.float64]:
        """Global positions of the lidar, shape (N, 3)."""
        return self.ego.to_parent(self.lidar.translation)

    def lidar_future(self, steps: int) -> NDArray[np.float64]:
        """Lidar positions now and at the next keyframes in the lidar frame of now (x right, y forward), metres, shape
        (N, steps + 1, 2)."""
        return self.lidar.from_parent(self.ego.from_parent(self.future(steps, self.lidar_origins())))[..., :2]


def read_scene(tables: KeyframeTables, record: SceneRecord, boxes: bool, views: bool = False) -> Scene:
    """Gather one record of the scene table into arrays, with its annotated boxes and cameras or without.

    Raises:
        TableError: a token leads nowhere, keyframes do not follow each other every 0.5 s, a keyframe has no lidar
            record, a pose is no pose, or the car jumps; of cameras, a record, size or intrinsic matrix is missing.
    """
    samples = _walk(tables, record)
    lidar = _lidar_records(tables, record.name, samples)
    scene = Scene(
        name=record.name,
        token=record.token,
        tokens=tuple(sample.token for sample in samples),
        timestamps=np.array([sample.timestamp for sample in samples], dtype=np.int64),
        ego=tables.poses([tables.get(EgoPose, one.ego_pose_token) for one in lidar]),
        lidar=tables.poses([tables.get(schema.CalibratedSensor, one.calibrated_sensor_token) for one in lidar]),
        images=tuple(
            {camera: data[camera].filename for camera in CAMERAS if camera in data}
            for data in (tables.data[sample.token] for sample in samples)
        ),
        boxes=_boxes(tables, samples) if boxes else None,
        description=record.description,
        views={camera: _views(tables, samples, camera) for camera in CAMERAS} if views else None,
    )
    if views and scene.boxes is not None and (unsized := np.isnan(scene.boxes.sizes).any(axis=1)).any():
        instance = scene.boxes.instances[int(unsized.argmax())]
        raise tables.error(schema.Annotation, f"an annotation of {instance!r} has no size")
    metres = np.linalg.norm(np.diff(scene.ego.translation, axis=0), axis=1)
    if (far := metres > MAX_STEP).any():
        number = int(far.argmax())
        pair = f"{scene.tokens[number]!r} and {scene.tokens[number + 1]!r}"
        problem = f"the car jumps {metres[number]:.0f} m between {pair}"
        raise tables.error(EgoPose, problem, "keyframes must be 0.5 s apart")
    return scene


def _walk(tables: KeyframeTables, record: SceneRecord) -> list[Sample]:
    """The keyframes of a scene, along the chain of their `next`."""
    samples = [tables.get(Sample, record.first_sample_token)]
    if samples[0].scene_token != record.token:
        problem = f"scene {record.token!r} begins with {samples[0].token!r} of another scene"
        raise tables.error(SceneRecord, problem)
    while samples[-1].next:
        last, following = samples[-1], tables.get(Sample, samples[-1].next)
        if following.scene_token != record.token:
            raise tables.error(Sample, f"{last.token!r} is followed by {following.token!r} of another scene")
        if following.timestamp <= last.timestamp:
            raise tables.error(Sample, f"time stamps do not increase from {last.token!r} to {following.token!r}")
        samples.append(following)
    for table, stated in ((SceneRecord, record.nbr_samples), (Sample, tables.samples_of[record.token])):
        if stated not in (None, len(samples)):
            problem = f"scene {record.token!r} has {stated} keyframes here, {len(samples)} by following `next`"
            raise tables.error(table, problem)
    return samples


def _lidar_records(tables: KeyframeTables, name: str, samples: Sequence[Sample]) -> list[SampleData]:
    """The lidar records of keyframes that follow each other every 0.5 s, as what belongs to each was recorded then."""
    seconds = np.diff([sample.timestamp for sample in samples]) / 1e6
    if (step := wrong_step(seconds)) is not None:
        problem = f"the keyframes of {name} are {step:.3g} s apart, not {STEP_SECONDS} s as the labels take it"
        raise tables.error(Sample, problem, "keep keyframes every 0.5 s")
    if (off := np.abs(seconds - STEP_SECONDS) > MAX_JITTER).any():
        number = int(off.argmax())
        pair = f"between {samples[number].token!r} and {samples[number + 1].token!r} of {name}"
        problem = f"{seconds[number]:.2f} s lie {pair}, not {STEP_SECONDS} s"
        raise tables.error(Sample, problem, "leave such scenes out with --scenes")
    lidar = []
    for sample in samples:
        if (record := tables.data[sample.token].get("LIDAR_TOP")) is None:
            problem = f"keyframe {sample.token!r} has no LIDAR_TOP record, whose pose is the ego pose of the labels"
            raise tables.error(SampleData, problem)
        beside: list[SampleData | EgoPose] = [*tables.data[sample.token].values()]
        for one in (*beside, tables.get(EgoPose, record.ego_pose_token)):
            late = 0 if one.timestamp is None else one.timestamp - sample.timestamp
            if abs(late) > MAX_OFFSET:
                problem = f"the time of {one.token!r} is {late / 1e6:+.2f} s from its keyframe {sample.token!r}"
                raise tables.error(type(one), problem)
        lidar.append(record)
    return lidar


def _boxes(tables: KeyframeTables, samples: Sequence[Sample]) -> Boxes:
    table = schema.Annotation
    records = [box for sample in samples for box in tables.annotations[sample.token]]
    numbers = [number for number, sample in enumerate(samples) for _ in tables.annotations[sample.token]]
    categories = (tables.get(schema.Instance, record.instance_token).category_token for record in records)
    names = [tables.get(schema.Category, category).name for category in categories]
    place = {record.token: number for number, record in enumerate(records)}
    following = []
    for record, number in zip(records, numbers, strict=True):
        following.append(place.get(record.next, -1))
        if not record.next:
            continue
        other, told = tables.get(table, record.next), f"annotation {record.token!r} is followed by {record.next!r}"
        if following[-1] < 0:
            raise tables.error(table, f"annotation {record.token!r} continues in another scene ({record.next!r})")
        if other.instance_token != record.instance_token:
            raise tables.error(table, f"{told} of another instance")
        if numbers[following[-1]] <= number:
            raise tables.error(table, f"{told}, which is no later")
    keyframe, next_box = np.array(numbers, dtype=np.intp), np.array(following, dtype=np.intp)
    apart = (keyframe[next_box] - keyframe)[next_box >= 0]
    if (apart > 1).sum() > MAX_LEFT_OUT * len(apart):
        steps = f"follow each other every {apart.mean():.2g} keyframes, not each"
        problem = f"annotations of {samples[0].scene_token!r} {steps}"
        raise tables.error(table, problem, "annotate every keyframe, or ask for --kinds plan")
    levels = {one.token: VISIBILITY.get(one.level) for one in tables.all(schema.Visibility)}
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


def _views(tables: KeyframeTables, samples: Sequence[Sample], camera: str) -> CameraViews:
    """One camera at the keyframes of a scene, the first image of which that is here has the size the table says."""
    found, hint = [tables.data[sample.token].get(camera) for sample in samples], "leave --objects out"
    records = [one for one in found if one is not None]
    if not records:
        raise tables.error(SampleData, f"{camera} has no record", hint)
    filled = [one or records[0] for one in found]
    mounts = [tables.get(schema.CalibratedSensor, one.calibrated_sensor_token) for one in filled]
    for one, mount in zip(filled, mounts, strict=True):
        if [len(row) for row in mount.camera_intrinsic] != [3, 3, 3]:
            problem = f"camera_intrinsic of {mount.token!r} ({camera}) is not 3 x 3 numbers"
            raise tables.error(schema.CalibratedSensor, problem)
        if not one.width or not one.height or min(one.width, one.height) < 1:
            raise tables.error(SampleData, f"{one.token!r} has no width and height of its image")
    here = next((one for one in records if is_file(tables.dataroot / one.filename)), None)
    if here and (size := open_image(tables.dataroot / here.filename).size) != (here.width, here.height):
        problem = f"{here.filename!r} has {size[0]} x {size[1]} pixels, not {here.width} x {here.height}"
        raise tables.error(SampleData, problem, f"correct the table, or {hint}")  # people keep smaller copies
    return CameraViews(
        present=np.array([one is not None for one in found]),
        ego=tables.poses([tables.get(EgoPose, one.ego_pose_token) for one in filled]),
        mount=tables.poses(mounts),
        intrinsic=np.array([mount.camera_intrinsic for mount in mounts]),
        size=np.array([(one.width, one.height) for one in filled]),
    )


def is_file(path: Path) -> bool:
    """Whether a file is there; raises TableError where that may not be known."""
    with accessing(path, "read", error=TableError):
        return path.is_file()
