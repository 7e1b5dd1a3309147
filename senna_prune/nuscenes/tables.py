"""The nuScenes tables: read, checked record by record, and linked."""

from __future__ import annotations

import hashlib
import re
import reprlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import msgspec
import numpy as np
from PIL import Image

from senna_prune.errors import TableError
from senna_prune.files import accessing, decode_json, digest, open_regular, read_bytes, read_json
from senna_prune.nuscenes.geometry import Poses
from senna_prune.nuscenes.schema import (
    BOX_TABLES,
    POSE_TABLES,
    Annotation,
    CalibratedSensor,
    EgoPose,
    Record,
    Sample,
    SampleData,
    SceneRecord,
    Sensor,
)

_AGAIN = "unpack the metadata archive again"
_SHORT = reprlib.Repr()
_SHORT.maxstring = 100  # tokens whole
R = TypeVar("R", bound=Record)


class KeyframeTables:
    """What conversion reads of a version's tables.

    Only keyframes' rows of `sample_data` and `ego_pose` are kept: sweeps are five sixths of both tables. Maps, lidarseg
    and panoptic labels are never opened, so a partial download without them can be converted.

    Attributes:
        data: records of each keyframe's sensors by channel, by sample token.
        annotations: annotated boxes in table order, by sample token.

    Args:
        dataroot: folder that holds `samples/` and the version's folder of tables.
        version: name of that folder, e.g. `v1.0-trainval`.
        extra: also read these, `BOX_TABLES` or `OBJECT_TABLES`.

    Raises:
        TableError: the version is unknown; a table is missing, not JSON, lacks a field, holds a value of another type
            or a token twice; or records contradict each other.
    """

    def __init__(self, dataroot: Path | str, version: str, extra: tuple[type[Record], ...] = BOX_TABLES) -> None:
        self.dataroot, self.version = Path(dataroot), version
        self.root = self.dataroot / version
        with accessing(self.root, "read", error=TableError):
            if not self.root.is_dir():
                there = ", ".join(sorted(path.parent.name for path in self.dataroot.glob("*/scene.json")))
                hint = f"available here: {there}" if there else "pass the folder that holds v1.0-mini or alike"
                problem = f"unknown version {version!r}" if self.dataroot.is_dir() else "no such folder"
                raise TableError(problem, where=self.dataroot, hint=hint)
        self._records: dict[type[Record], dict[str, Record]] = {}
        for table in (*POSE_TABLES, *extra):  # ego_pose after sample_data, whose keyframes tell what is needed of it
            self._records[table] = self._checked(table)
        _refuse_twice((scene.name for scene in self.all(SceneRecord)), "name", self.path(SceneRecord))
        self.data = self._keyframe_data()
        self.annotations: dict[str, list[Annotation]] = defaultdict(list)
        for box in self.all(Annotation):
            self.annotations[self.get(Sample, box.sample_token).token].append(box)
        self.samples_of = Counter(sample.scene_token for sample in self.all(Sample))

    def path(self, table: type[Record]) -> Path:
        return self.root / f"{table.table}.json"

    def error(self, table: type[Record], problem: str, hint: str | None = None) -> TableError:
        """What is wrong with a table, to be raised."""
        return TableError(problem, where=self.path(table), hint=hint)

    def all(self, table: type[R]) -> list[R]:
        return cast(list[R], list(self._records.get(table, {}).values()))

    def get(self, table: type[R], token: str) -> R:
        """The record of a token.

        Raises:
            TableError: there is none.
        """
        try:
            return cast(R, self._records[table][token])
        except KeyError:
            raise self.error(table, f"no record with token {token!r}") from None

    def _checked(self, table: type[Record]) -> dict[str, Record]:
        """The records of a table by token, those of sweeps left out."""
        path = self.path(table)
        records: Iterable[Record] = _read(path, table)
        if table is SampleData:
            records = [one for one in cast(list[SampleData], records) if one.is_key_frame]
        elif table is EgoPose:
            needed = {one.ego_pose_token for one in self.all(SampleData)}
            records = [one for one in records if one.token in needed]
        for record in records:
            if fault := record.fault():
                raise self.error(table, fault, _AGAIN)
        _refuse_twice((record.token for record in records), "token", path)
        return {record.token: record for record in records}

    def _keyframe_data(self) -> dict[str, dict[str, SampleData]]:
        channels = {sensor.channel for sensor in self.all(Sensor)}
        hint = "give each sensor a calibrated_sensor record of its own"
        data: dict[str, dict[str, SampleData]] = {sample.token: {} for sample in self.all(Sample)}
        for one in self.all(SampleData):
            there, calibration = data[self.get(Sample, one.sample_token).token], one.calibrated_sensor_token
            channel = self.get(Sensor, self.get(CalibratedSensor, calibration).sensor_token).channel
            named = channels.intersection(re.split("/|__", one.filename))
            if named and channel not in named:
                problem = f"{one.token!r} is of {channel} by its calibrated_sensor_token {calibration!r}"
                raise self.error(SampleData, f"{problem}, of {min(named)} by its filename", hint)
            if before := there.get(channel):
                problem = f"keyframe {one.sample_token!r} has two {channel} records, {one.token!r} is one"
                if shared := before.calibrated_sensor_token == calibration and before.filename != one.filename:
                    problem += f", which share the calibrated_sensor_token {calibration!r}"
                raise self.error(SampleData, problem, hint if shared else _AGAIN)
            there[channel] = one
        return data

    def poses(self, records: Sequence[CalibratedSensor | EgoPose | Annotation]) -> Poses:
        """Poses of records of one table.

        Raises:
            TableError: a rotation is none.
        """
        translation = np.array([record.translation for record in records]).reshape(-1, 3)
        rotation = np.array([record.rotation for record in records]).reshape(-1, 4)
        if (wrong := np.abs((rotation**2).sum(axis=1) - 1) > 0.1).any():
            record = records[int(wrong.argmax())]
            raise self.error(type(record), f"the rotation of {record.token!r} is no unit quaternion")
        return Poses.from_quaternions(translation, rotation)

    def digest(self, tables: tuple[type[Record], ...]) -> str:
        """SHA-256 over the tables' files, first 16 hex digits."""
        whole = "".join(f"{table.table}:{digest(self.path(table))};" for table in tables)
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    def select_scenes(
        self, split: str | None = None, scene_file: Path | str | None = None
    ) -> tuple[list[SceneRecord], list[str]]:
        """Scenes to convert, in table order, and the names of wanted scenes that the tables do not hold.

        Args:
            split: a devkit split (`mini_val`, `val`, ...) or one of the version folder's own `splits.json`; None = all.
            scene_file: scene names, one a line or a JSON list; narrows the split.

        Raises:
            TableError: the split is unknown, or no wanted scene is in the tables.
        """
        scenes = self.all(SceneRecord)
        names = [scene.name for scene in scenes] if split is None else self._split(split)
        if scene_file is not None:
            listed = read_scene_file(scene_file)
            names = listed if split is None else [name for name in names if name in set(listed)]
        wanted = set(names)
        present = [scene for scene in scenes if scene.name in wanted]
        if not present:
            what = f"split {split!r}" if scene_file is None else f"scene list {scene_file}"
            raise self.error(SceneRecord, f"none of the {len(wanted)} scenes of {what} is in this version")
        return present, sorted(wanted - {scene.name for scene in present})

    def _split(self, split: str) -> list[str]:
        predefined, path = _devkit_splits(), self.root / "splits.json"
        if split in predefined:
            return predefined[split]
        with accessing(path, "read", error=TableError):
            own = read_json(path, error=TableError) if path.exists() else {}
        if split in own:
            return _scene_names(own[split], f"{path}, {split!r}")
        hint = f"use one of {', '.join(predefined)}, or a key of splits.json beside the tables"
        raise TableError(f"unknown split {split!r}", where=self.root, hint=hint)


def _read(path: Path, table: type[R]) -> list[R]:
    """All records of a table, those of sweeps too.

    Raises:
        TableError: it is missing, not JSON, or a record lacks a field or holds a value of another type.
    """
    with accessing(path, "read", error=TableError):
        if not path.exists():
            raise TableError("the table is missing", where=path, hint="unpack the metadata archive of this version")
    with open_regular(path, error=TableError) as stream, accessing(path, "read", error=TableError):
        content = stream.read().removeprefix(b"\xef\xbb\xbf")
    try:
        return msgspec.json.decode(content, type=list[table])  # type: ignore[valid-type]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        # Once more, more slowly: what names the record at fault, in Python's more tolerant reading of JSON.
        for number, row in enumerate(decode_json(content, path, list, _AGAIN, TableError)):
            try:
                fault = msgspec.convert(row, table).fault()
            except msgspec.ValidationError as failure:
                fault = _name(failure, number, row)
            if fault:
                raise TableError(fault, where=path, hint=_AGAIN) from error
        raise TableError(f"not JSON ({error})", where=path, hint=_AGAIN) from error


def _name(failure: msgspec.ValidationError, number: int, row: object) -> str:
    """Field, token and value at fault in one row."""
    if not isinstance(row, dict):
        return f"row {number} is {_SHORT.repr(row)}, not a record"
    problem, _, place = str(failure).partition(" - at `$.")
    token, field = _SHORT.repr(row.get("token")), re.split(r"[\[`.]", place)[0]
    if not field:
        return f"record {number} (token {token}): {problem.replace('Object missing required', 'it has no')}"
    return f"{field} of {token} is {_SHORT.repr(row[field])}: {problem}"


def _refuse_twice(keys: Iterable[str], what: str, path: Path) -> None:
    twice = next((key for key, count in Counter(keys).items() if count > 1), None)
    if twice is not None:
        raise TableError(f"{what} {twice!r} stands in more than one record", where=path, hint=_AGAIN)


def _devkit_splits() -> dict[str, list[str]]:
    limit = Image.MAX_IMAGE_PIXELS
    try:
        from nuscenes.utils.splits import create_splits_scenes
    except ModuleNotFoundError as error:
        hint = 'pip install "senna_prune[nuscenes]", or name the scenes with --scenes'
        raise TableError("the nuScenes devkit, which has them, is not installed", where="splits", hint=hint) from error
    finally:
        # The devkit lifts Pillow's limit against decompression bombs for the whole process.
        Image.MAX_IMAGE_PIXELS = limit
    splits: dict[str, list[str]] = create_splits_scenes()
    return splits


def read_scene_file(path: Path | str) -> list[str]:
    """Scene names of a text file (one a line, `#` starts a comment) or of a JSON list.

    Raises:
        TableError: it cannot be read, or is neither.
    """
    content = read_bytes(path, error=TableError)
    if Path(path).suffix == ".json":
        return _scene_names(decode_json(content, path, list, error=TableError), path)
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise TableError(f"not a text ({error})", where=path, hint="write one scene name a line") from error
    return [name for line in lines if (name := line.partition("#")[0].strip())]


def _scene_names(names: object, where: object) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TableError("not a JSON list of scene names", where=where)
    return names
