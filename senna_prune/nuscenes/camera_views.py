"""The cameras of a scene: where they stand, and how they project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from senna_prune.errors import TableError
from senna_prune.files import accessing
from senna_prune.image_files import open_image
from senna_prune.nuscenes.geometry import Poses
from senna_prune.nuscenes.schema import CalibratedSensor, EgoPose, Sample, SampleData
from senna_prune.nuscenes.tables import KeyframeTables


@dataclass(frozen=True)
class CameraViews:
    """One camera at the N keyframes of a scene.

    Attributes:
        present: where it has a record, shape (N,); elsewhere the rest is of no meaning.
        ego: ego frames in the global frame when the image was taken.
        mount: camera frames (x right, y down, z ahead) in the ego frame.
        intrinsic: shape (N, 3, 3).
        size: width and height of the image, pixels, shape (N, 2).
    """

    present: NDArray[np.bool_]
    ego: Poses
    mount: Poses
    intrinsic: NDArray[np.float64]
    size: NDArray[np.int64]


def read_views(tables: KeyframeTables, samples: Sequence[Sample], camera: str) -> CameraViews:
    """One camera at the keyframes of a scene.

    Raises:
        TableError: it has no record, no intrinsic matrix or no size, or its images have another size.
    """
    found = [tables.data[sample.token].get(camera) for sample in samples]
    records = [one for one in found if one is not None]
    if not records:
        raise TableError(f"{camera} has no record", where=tables.path(SampleData), hint="leave --objects out")
    filled = [one or records[0] for one in found]
    mounts = [tables.get(CalibratedSensor, one.calibrated_sensor_token) for one in filled]
    for one, mount in zip(filled, mounts, strict=True):
        if [len(row) for row in mount.camera_intrinsic] != [3, 3, 3]:
            problem = f"camera_intrinsic of {mount.token!r} ({camera}) is not 3 x 3 numbers"
            raise TableError(problem, where=tables.path(CalibratedSensor))
        if not one.width or not one.height or min(one.width, one.height) < 1:
            problem = f"{one.token!r} has no width and height of its image"
            raise TableError(problem, where=tables.path(SampleData))
    _check_size(tables, records)
    return CameraViews(
        present=np.array([one is not None for one in found]),
        ego=tables.poses([tables.get(EgoPose, one.ego_pose_token) for one in filled]),
        mount=tables.poses(mounts),
        intrinsic=np.array([mount.camera_intrinsic for mount in mounts]),
        size=np.array([(one.width, one.height) for one in filled]),
    )


def _check_size(tables: KeyframeTables, records: Sequence[SampleData]) -> None:
    """The first image of a camera that is here has the size that the table says: people keep smaller copies."""
    for one in records:
        path = tables.dataroot / one.filename
        with accessing(path, "read", error=TableError):
            exists = path.is_file()
        if exists:
            size = open_image(path).size
            if size != (one.width, one.height):
                problem = f"{one.filename!r} has {size[0]} x {size[1]} pixels, not {one.width} x {one.height}"
                raise TableError(
                    problem, where=tables.path(SampleData), hint="correct the table, or leave --objects out"
                )
            return
