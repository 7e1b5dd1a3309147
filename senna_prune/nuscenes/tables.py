"""The nuScenes tables, read through the devkit. The only module of the package that imports it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from senna_prune.errors import TableError
from senna_prune.files import digest

try:
    from nuscenes.nuscenes import NuScenes
    from nuscenes.utils.splits import create_splits_scenes, get_scenes_of_split
except ModuleNotFoundError as error:
    raise TableError(
        "the nuScenes devkit is not installed", where=error.name, hint='pip install "senna_prune[nuscenes]"'
    ) from error

POSE_TABLES = ("scene", "sample", "sensor", "calibrated_sensor", "sample_data", "ego_pose")
"""What planning questions need."""

BOX_TABLES = ("category", "instance", "sample_annotation")
"""What questions about objects need on top; the released test split has none."""

FIELDS: dict[str, frozenset[str]] = {
    "scene": frozenset({"token", "name", "first_sample_token"}),
    "sample": frozenset({"token", "timestamp", "prev", "next", "scene_token"}),
    "sensor": frozenset({"token", "channel", "modality"}),
    "calibrated_sensor": frozenset({"token", "sensor_token", "translation", "rotation"}),
    "sample_data": frozenset(
        {"token", "sample_token", "ego_pose_token", "calibrated_sensor_token", "is_key_frame", "filename"}
    ),
    "ego_pose": frozenset({"token", "translation", "rotation"}),
    "category": frozenset({"token", "name"}),
    "instance": frozenset({"token", "category_token"}),
    "sample_annotation": frozenset({"token", "sample_token", "instance_token", "translation", "rotation", "next"}),
}
"""Fields conversion reads; others may be absent (older category tables have no `index`)."""


class KeyframeTables(NuScenes):
    """The devkit's database, holding only what conversion reads, whose failures name the table and the token.

    Only keyframes' rows of `sample_data` and `ego_pose` are kept: sweeps are five sixths of both tables. Maps, lidarseg
    and panoptic labels are never opened, so a partial download without them can be converted.

    Args:
        dataroot: folder that holds `samples/` and the version's folder of tables.
        version: name of that folder, e.g. `v1.0-trainval`.
        boxes: also read the tables of annotated objects.

    Raises:
        TableError: the version is unknown, or a table is missing, not JSON, lacks a field or refers to an absent token.
    """

    def __init__(self, dataroot: Path | str, version: str, boxes: bool = True) -> None:
        # The devkit's own constructor would also open map pictures and lidarseg labels.
        self.dataroot, self.version, self.verbose = str(dataroot), version, False
        if not Path(self.table_root).is_dir():
            there = sorted(path.parent.name for path in Path(dataroot).glob("*/scene.json"))
            hint = f"available here: {', '.join(there)}" if there else "pass the folder that holds v1.0-mini or alike"
            raise TableError(f"unknown version {version!r}", where=dataroot, hint=hint)
        self.table_names = [*POSE_TABLES, *(BOX_TABLES if boxes else ())]
        self.sample_data: list[dict[str, Any]]
        self.sample_annotation: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.map: list[dict[str, Any]] = [{"log_tokens": []}]  # the devkit's reverse index insists on one row
        for name in self.table_names:
            setattr(self, name, self._keyframes_of(name, self.__load_table__(name)))
        self.__make_reverse_index__(verbose=False)

    def table_path(self, table_name: str) -> Path:
        return Path(self.table_root) / f"{table_name}.json"

    def __load_table__(self, table_name: str) -> list[dict[str, Any]]:
        path = self.table_path(table_name)
        if not path.is_file():
            raise TableError("the table is missing", where=path, hint="unpack the metadata archive of this version")
        try:
            with path.open(encoding="utf-8") as stream:
                table = json.load(stream)
        except OSError as error:
            raise TableError(f"cannot be read ({error.strerror})", where=path, hint="check its permissions") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise TableError(f"not JSON ({error})", where=path, hint="unpack the metadata archive again") from error
        if not isinstance(table, list):
            raise TableError("not a list of records", where=path, hint="unpack the metadata archive again")
        for number, record in enumerate(table):
            if not isinstance(record, dict) or not FIELDS[table_name] <= record.keys():
                lacks = sorted(FIELDS[table_name] - record.keys()) if isinstance(record, dict) else ["token"]
                token = record.get("token") if isinstance(record, dict) else None
                raise TableError(f"record {number} (token {token!r}) has no field {lacks[0]!r}", where=path)
        return table

    def _keyframes_of(self, table_name: str, table: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if table_name == "sample_data":
            return [record for record in table if record["is_key_frame"]]
        if table_name == "ego_pose":  # POSE_TABLES puts it after sample_data
            needed = {record["ego_pose_token"] for record in self.sample_data}
            return [record for record in table if record["token"] in needed]
        return table

    def getind(self, table_name: str, token: str) -> int:
        try:
            return self._token2ind[table_name][token]
        except KeyError:
            raise TableError(f"no record with token {token!r}", where=self.table_path(table_name)) from None

    def digest(self, table_names: tuple[str, ...]) -> str:
        """SHA-256 over the named tables' files, first 16 hex digits."""
        sha = hashlib.sha256()
        for name in table_names:
            sha.update(f"{name}:{digest(self.table_path(name))};".encode())
        return sha.hexdigest()[:16]

    def select_scenes(
        self, split: str | None = None, scene_file: Path | str | None = None
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Scenes to convert, in table order, and the names of wanted scenes that the tables do not hold.

        Args:
            split: a devkit split (`mini_val`, `val`, ...) or one of the version folder's own `splits.json`; None = all.
            scene_file: scene names, one a line or a JSON list; narrows the split.

        Raises:
            TableError: the split is unknown, or no wanted scene is in the tables.
        """
        names = [scene["name"] for scene in self.scene] if split is None else self._split(split)
        if scene_file is not None:
            listed = read_scene_file(scene_file)
            names = listed if split is None else [name for name in names if name in set(listed)]
        wanted = set(names)
        present = [scene for scene in self.scene if scene["name"] in wanted]
        if not present:
            where = self.table_path("scene")
            what = f"split {split!r}" if scene_file is None else f"scene list {scene_file}"
            raise TableError(f"none of the {len(wanted)} scenes of {what} is in this version", where=where)
        return present, sorted(wanted - {scene["name"] for scene in present})

    def _split(self, split: str) -> list[str]:
        try:
            return list(get_scenes_of_split(split, self))
        except (ValueError, AssertionError) as error:
            known = ", ".join(create_splits_scenes())
            hint = f"use one of {known}, or a key of splits.json beside the tables"
            raise TableError(f"unknown split {split!r}", where=self.table_root, hint=hint) from error


def read_scene_file(path: Path | str) -> list[str]:
    """Scene names of a text file (one a line, `#` starts a comment) or of a JSON list."""
    path = Path(path)
    if not path.is_file():
        raise TableError("no such scene list", where=path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"cannot be read ({error})", where=path) from error
    if path.suffix == ".json":
        try:
            names = json.loads(text)
        except json.JSONDecodeError as error:
            raise TableError(f"not JSON ({error})", where=path) from error
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TableError("not a JSON list of scene names", where=path)
        return names
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]
