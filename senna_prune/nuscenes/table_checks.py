"""What conversion reads of every nuScenes table, and what the values must be."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from senna_prune.errors import TableError

Record = dict[str, Any]

LAST_TIME = 1 << 53
"""Microseconds; time stamps below are exact in every JSON reader."""

_AGAIN = "unpack the metadata archive again"
_SHORT = reprlib.Repr()
_SHORT.maxstring = 100  # tokens whole


@dataclass(frozen=True)
class Field:
    """What a value must be.

    Attributes:
        wanted: in the words of the error message.
        accepts: whether a decoded value is that.
    """

    wanted: str
    accepts: Callable[[Any], bool]


def _is_text(value: object) -> bool:
    # Printable: control characters and lone surrogates would break the planning set or the terminal.
    return isinstance(value, str) and value.isprintable()


TEXT = Field("a printable text", lambda value: _is_text(value) and value != "")
LINK = Field("a token, or empty at the end of a chain", _is_text)
NAME = Field("a printable name without <image>", lambda value: TEXT.accepts(value) and "<image>" not in value)
SCENE = Field("a printable name without <image> and slash", lambda value: NAME.accepts(value) and "/" not in value)
"""It is the beginning of a file name of the CAN bus expansion."""
FLAG = Field("true or false", lambda value: isinstance(value, bool))
TIME = Field("a time stamp in whole microseconds", lambda value: type(value) is int and 0 <= value < LAST_TIME)
FILE = Field("a path inside the data root", lambda value: TEXT.accepts(value) and _is_inside(value))
VECTOR = Field("a vector", lambda value: True)
"""`scene.read_scene` checks the numbers of all records at once."""


def _is_inside(name: str) -> bool:
    return not name.startswith("/") and (".." not in name or ".." not in Path(name).parts)


FIELDS: dict[str, dict[str, Field]] = {
    "scene": {"token": TEXT, "name": SCENE, "first_sample_token": TEXT},
    "sample": {"token": TEXT, "timestamp": TIME, "prev": LINK, "next": LINK, "scene_token": TEXT},
    "sensor": {"token": TEXT, "channel": TEXT, "modality": TEXT},
    "calibrated_sensor": {"token": TEXT, "sensor_token": TEXT, "translation": VECTOR, "rotation": VECTOR},
    "sample_data": {
        "token": TEXT,
        "sample_token": TEXT,
        "ego_pose_token": TEXT,
        "calibrated_sensor_token": TEXT,
        "is_key_frame": FLAG,
        "filename": FILE,
    },
    "ego_pose": {"token": TEXT, "translation": VECTOR, "rotation": VECTOR},
    "category": {"token": TEXT, "name": NAME},
    "instance": {"token": TEXT, "category_token": TEXT},
    "sample_annotation": {
        "token": TEXT,
        "sample_token": TEXT,
        "instance_token": TEXT,
        "translation": VECTOR,
        "rotation": VECTOR,
        "next": LINK,
    },
}
"""Fields that conversion reads; others may be absent (older category tables have no `index`)."""


def check_presence(table_name: str, table: list[Any], path: Path) -> None:
    """Make sure that every row of a table is a record with all its fields.

    Raises:
        TableError: one is not; names the row.
    """
    fields = FIELDS[table_name].keys()
    for number, record in enumerate(table):
        if not isinstance(record, dict):
            raise TableError(f"row {number} is {_SHORT.repr(record)}, not a record", where=path, hint=_AGAIN)
        if not fields <= record.keys():
            lacks, token = min(fields - record.keys()), _SHORT.repr(record.get("token"))
            raise TableError(f"record {number} (token {token}) has no field {lacks!r}", where=path)


def check_values(table_name: str, records: Iterable[Record], path: Path) -> None:
    """Make sure that the values of records are what their fields demand.

    Raises:
        TableError: one is not; names the token.
    """
    for name, field in FIELDS[table_name].items():
        accepts = field.accepts
        for record in records:
            if not accepts(record[name]):
                token, value = _SHORT.repr(record["token"]), _SHORT.repr(record[name])
                raise TableError(f"{name} of {token} is {value}, not {field.wanted}", where=path, hint=_AGAIN)


def check_unique(keys: Iterable[object], what: str, path: Path) -> None:
    """Make sure that no key stands twice.

    Args:
        what: what the keys are, for the message.

    Raises:
        TableError: one does.
    """
    keys = list(keys)
    if len(set(keys)) < len(keys):
        twice = next(key for key, count in Counter(keys).items() if count > 1)
        raise TableError(f"{what} {twice!r} stands in more than one record", where=path, hint=_AGAIN)


def check_key_frames(samples: Iterable[Record], sample_data: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Make sure that a keyframe has one record of each sensor, after the devkit has attached them to the keyframes.

    Raises:
        TableError: a keyframe has two; names the second.
    """
    attached = {token for sample in samples for token in sample["data"].values()}
    for record in sample_data:
        if record["token"] not in attached:  # the devkit keeps the last one
            problem = (
                f"keyframe {record['sample_token']!r} has two {record['channel']} records, {record['token']!r} is one"
            )
            raise TableError(problem, where=path, hint=_AGAIN)
