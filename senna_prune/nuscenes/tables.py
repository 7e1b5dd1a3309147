"""The nuScenes tables, read through the devkit. The only module of the package that imports it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image

from senna_prune.errors import TableError
from senna_prune.files import accessing, decode_json, digest, open_regular, read_bytes, read_json
from senna_prune.nuscenes.table_checks import Record, check_key_frames, check_presence, check_unique, check_values

_pixel_limit = Image.MAX_IMAGE_PIXELS
try:
    from nuscenes.nuscenes import NuScenes
    from nuscenes.utils.splits import create_splits_scenes
except ModuleNotFoundError as error:
    raise TableError(
        "the nuScenes devkit is not installed", where=error.name, hint='pip install "senna_prune[nuscenes]"'
    ) from error
finally:
    # The devkit lifts Pillow's limit against decompression bombs for the whole process.
    Image.MAX_IMAGE_PIXELS = _pixel_limit

POSE_TABLES = ("scene", "sample", "sensor", "calibrated_sensor", "sample_data", "ego_pose")
"""What planning questions need."""

BOX_TABLES = ("category", "instance", "sample_annotation")
"""What questions about objects need on top; the released test split has none."""


class KeyframeTables(NuScenes):
    """The devkit's database, holding only what conversion reads, whose failures name the table and the token.

    Only keyframes' rows of `sample_data` and `ego_pose` are kept: sweeps are five sixths of both tables. Maps, lidarseg
    and panoptic labels are never opened, so a partial download without them can be converted.

    Args:
        dataroot: folder that holds `samples/` and the version's folder of tables.
        version: name of that folder, e.g. `v1.0-trainval`.
        boxes: also read the tables of annotated objects.

    Raises:
        TableError: the version is unknown, or a table is missing, not JSON, lacks a field, holds a value of another
            type or a token twice, or refers to an absent token.
    """

    def __init__(self, dataroot: Path | str, version: str, boxes: bool = True) -> None:
        # The devkit's own constructor would also open map pictures and lidarseg labels.
        self.dataroot, self.version, self.verbose = str(dataroot), version, False
        self._check_folder()
        self.table_names = [*POSE_TABLES, *(BOX_TABLES if boxes else ())]
        self.scene: list[Record]
        self.sample: list[Record]
        self.sample_data: list[Record]
        self.sample_annotation: list[Record] = []
        self.log: list[Record] = []
        self.map: list[Record] = [{"log_tokens": []}]  # the devkit's reverse index insists on one row
        for name in self.table_names:
            table = self._keyframes_of(name, self.__load_table__(name))
            check_values(name, table, self.table_path(name))
            check_unique((record["token"] for record in table), "token", self.table_path(name))
            setattr(self, name, table)
        check_unique((scene["name"] for scene in self.scene), "name", self.table_path("scene"))
        self.__make_reverse_index__(verbose=False)
        check_key_frames(self.sample, self.sample_data, self.table_path("sample_data"))

    def _check_folder(self) -> None:
        with accessing(self.table_root, "read", error=TableError):
            if not Path(self.table_root).is_dir():
                there = sorted(path.parent.name for path in Path(self.dataroot).glob("*/scene.json"))
                hint = (
                    f"available here: {', '.join(there)}" if there else "pass the folder that holds v1.0-mini or alike"
                )
                problem = f"unknown version {self.version!r}" if Path(self.dataroot).is_dir() else "no such folder"
                raise TableError(problem, where=self.dataroot, hint=hint)

    def table_path(self, table_name: str) -> Path:
        return Path(self.table_root) / f"{table_name}.json"

    def __load_table__(self, table_name: str) -> list[Record]:
        path = self.table_path(table_name)
        if not _exists(path):
            raise TableError("the table is missing", where=path, hint="unpack the metadata archive of this version")
        again = "unpack the metadata archive again"
        # As text at once: bytes and text of the largest table together would need twice its 1 GB.
        with open_regular(path, error=TableError) as stream, accessing(path, "read", error=TableError):
            try:
                with io.TextIOWrapper(stream, encoding="utf-8-sig") as lines:
                    text = lines.read()
            except UnicodeDecodeError as error:
                raise TableError(f"not JSON ({error})", where=path, hint=again) from error
        table: list[Record] = decode_json(text, path, list, again, TableError)
        check_presence(table_name, table, path)
        return table

    def _keyframes_of(self, table_name: str, table: list[Record]) -> list[Record]:
        if table_name == "sample_data":
            return [record for record in table if record["is_key_frame"] is not False]
        if table_name == "ego_pose":  # POSE_TABLES puts it after sample_data
            needed = {record["ego_pose_token"] for record in self.sample_data}
            return [record for record in table if isinstance(record["token"], str) and record["token"] in needed]
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
    ) -> tuple[list[Record], list[str]]:
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
        predefined = create_splits_scenes()
        if split in predefined:
            return list(predefined[split])
        path = Path(self.table_root) / "splits.json"
        own = read_json(path, error=TableError) if _exists(path) else {}
        if split in own:
            return _scene_names(own[split], f"{path}, {split!r}")
        hint = f"use one of {', '.join(predefined)}, or a key of splits.json beside the tables"
        raise TableError(f"unknown split {split!r}", where=self.table_root, hint=hint)


def _exists(path: Path) -> bool:
    with accessing(path, "read", error=TableError):
        return path.exists()


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
    names = (line.partition("#")[0].strip() for line in lines)
    return [name for name in names if name]


def _scene_names(names: object, where: object) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TableError("not a JSON list of scene names", where=where)
    return names
