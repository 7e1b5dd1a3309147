"""The records of the nuScenes tables: the fields that conversion reads, with what they must be.

msgspec checks presence, types and ranges while it decodes; `Record.fault` says what types cannot. Other fields are
ignored, and older tables may lack those with a default.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

LAST_TIME = 1 << 53
"""Microseconds; time stamps below are exact in every JSON reader."""

MAX_COORDINATE = 1e8
"""Metres from a map's origin; the coordinates of no map frame on Earth are larger."""

Token = Annotated[str, Meta(min_length=1)]
Time = Annotated[int, Meta(ge=0, lt=LAST_TIME)]
Coordinate = Annotated[float, Meta(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]
Vector = tuple[Coordinate, Coordinate, Coordinate]
Quaternion = tuple[Coordinate, Coordinate, Coordinate, Coordinate]


class Record(Struct, gc=False):
    """One row of a table; `table` names it."""

    table: ClassVar[str]
    token: Token

    def fault(self) -> str | None:
        """What is wrong beyond types, as `field of token is value, not what it should be`."""
        # Control characters and lone surrogates would break the planning set or the terminal.
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, str) and not value.isprintable():
                return f"{name} of {self.token!a} is {value!a}, not a printable text"
        return None


class SceneRecord(Record, gc=False):
    table = "scene"
    name: Token
    first_sample_token: Token
    nbr_samples: int | None = None
    description: Any = ""

    def __post_init__(self) -> None:
        if not isinstance(self.description, str) or not self.description.isprintable():
            self.description = ""

    def fault(self) -> str | None:
        if "<image>" in self.name or "/" in self.name or "\\" in self.name:  # it begins names of CAN-bus files
            return f"name of {self.token!a} is {self.name!a}, not a printable name without <image> and slash"
        return super().fault()


class Sample(Record, gc=False):
    table = "sample"
    timestamp: Time
    prev: str
    next: str
    scene_token: Token


class Sensor(Record, gc=False):
    table = "sensor"
    channel: Token
    modality: Token

    def fault(self) -> str | None:
        for prefix, modality in (("CAM_", "camera"), ("LIDAR_", "lidar")):
            if self.channel.startswith(prefix) and self.modality != modality:
                return f"modality of {self.token!a} is {self.modality!a}, not {modality!r} as its channel says"
        return super().fault()


class CalibratedSensor(Record, gc=False):
    table = "calibrated_sensor"
    sensor_token: Token
    translation: Vector
    rotation: Quaternion
    camera_intrinsic: list[list[float]] = []


class SampleData(Record, gc=False):
    """`filename` gets slashes where it was written on Windows."""

    table = "sample_data"
    sample_token: Token
    ego_pose_token: Token
    calibrated_sensor_token: Token
    is_key_frame: bool
    filename: Token
    timestamp: Time | None = None
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        self.filename = self.filename.replace("\\", "/")

    def fault(self) -> str | None:
        leads_out = ".." in self.filename and ".." in PurePosixPath(self.filename).parts
        if leads_out or self.filename.startswith("/") or re.match("[A-Za-z]:", self.filename):
            return f"filename of {self.token!a} is {self.filename!a}, not a path inside the data root"
        return super().fault()


class EgoPose(Record, gc=False):
    table = "ego_pose"
    translation: Vector
    rotation: Quaternion
    timestamp: Time | None = None


class Category(Record, gc=False):
    table = "category"
    name: Token

    def fault(self) -> str | None:
        if "<image>" in self.name:
            return f"name of {self.token!a} is {self.name!a}, not a printable name without <image>"
        return super().fault()


class Instance(Record, gc=False):
    table = "instance"
    category_token: Token


class Annotation(Record, gc=False):
    table = "sample_annotation"
    sample_token: Token
    instance_token: Token
    translation: Vector
    rotation: Quaternion
    next: str
    size: Vector | None = None
    visibility_token: str | None = None


class Visibility(Record, gc=False):
    table = "visibility"
    level: Token


POSE_TABLES: tuple[type[Record], ...] = (SceneRecord, Sample, Sensor, CalibratedSensor, SampleData, EgoPose)
"""What planning questions need."""

BOX_TABLES: tuple[type[Record], ...] = (Category, Instance, Annotation)
"""What questions about objects need on top; the released test split has none."""

OBJECT_TABLES: tuple[type[Record], ...] = (*BOX_TABLES, Visibility)
"""What the objects of each sample need on top."""
