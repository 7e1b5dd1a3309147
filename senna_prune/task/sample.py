"""`PlanningSample`: the one typed record that conversion writes and evaluation reads, and its JSON Lines form."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path as FilePath
from typing import Any

from senna_prune.errors import SampleError, brief, nearest_of
from senna_prune.files import accessing, decode_json, open_regular, write_whole
from senna_prune.task.labels import CAMERAS, CORRECTED, KINDS, VIEW_LABELS, Convention, view_label
from senna_prune.task.objects import SeenObject, read_objects

SCHEMA_VERSION = 1
_NUSCENES = frozenset(CAMERAS)


@dataclass(frozen=True, slots=True)
class PlanningSample:
    """One question about one keyframe.

    Attributes:
        token: nuScenes sample token.
        scene: scene name, e.g. `scene-0061`; the cluster of the statistics.
        timestamp: microseconds.
        kind: one of `KINDS`.
        images: image paths by camera, relative to the image root: nuScenes' six, or others in the order of their labels
            in the question, which a checkpoint must name in its configuration.
        question: user turn with one `<image>` marker per camera, as the model is asked.
        answer: reference answer.
        speed: displayed ego speed in m/s, None where the question has none.
        command: navigation command, None where the question has none.
        convention: camera order and navigation command convention; a planning set says both for every sample.
        index: counts questions of one kind about one keyframe (motion questions are asked per view).
        trajectory: future ego positions every 0.5 s, lidar frame at the keyframe (x right, y forward), metres.
        source: digest of the tables the sample was made from. Where a speed is shown `/can_bus`, `/displacement` (which
            looks 0.5 s into the future) or `/past` follows, and where a captioner answered its name.
        description: of the scene, in any words; results are broken down by `night` and `rain` in it. Empty: not known.
        objects: that the cameras see, for the audit of what a pruner drops; None: not known.
    """

    token: str
    scene: str
    timestamp: int
    kind: str
    images: Mapping[str, str]
    question: str
    answer: str
    speed: float | None = None
    command: str | None = None
    convention: Convention = CORRECTED
    index: int = 0
    trajectory: tuple[tuple[float, float], ...] | None = None
    source: str = ""
    description: str = ""
    objects: tuple[SeenObject, ...] | None = None

    @property
    def key(self) -> str:
        """Unique within a planning set."""
        return f"{self.token}/{self.kind}/{self.index}/{self.convention.name}"

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras in the order of the prompt's labels: nuScenes' six under the convention, others as they stand."""
        return self.convention.camera_order if self.images.keys() == _NUSCENES else tuple(self.images)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the views in the prompt."""
        return VIEW_LABELS if self.images.keys() == _NUSCENES else tuple(map(view_label, self.images))

    def view_paths(self) -> tuple[str, ...]:
        """The image paths in the order of the prompt's labels, under this sample's convention."""
        return tuple(self.images[camera] for camera in self.cameras)

    def to_dict(self) -> dict[str, Any]:
        record: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        record["images"] = dict(self.images)
        record["convention"] = self.convention.to_dict()
        if not self.description:
            del record["description"]
        record["objects"] = [seen.to_dict() for seen in self.objects or ()]
        if self.objects is None:
            del record["objects"]
        return {"schema": SCHEMA_VERSION, **record}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], where: str = "planning set") -> PlanningSample:
        """Build a sample from one decoded JSON line.

        Raises:
            SampleError: a field is missing, unknown or of the wrong type.
        """
        values = dict(record)
        schema = values.pop("schema", None)
        if schema != SCHEMA_VERSION:
            raise SampleError(
                f"schema version {schema!r}, expected {SCHEMA_VERSION}", where=where, hint="convert the set again"
            )
        known = {f.name for f in fields(cls)}
        required = {"token", "scene", "timestamp", "kind", "images", "question", "answer", "convention"}
        if missing := sorted(required - values.keys()):
            raise SampleError(f"field {missing[0]!r} is missing", where=where, hint="convert the set again")
        if unknown := sorted(values.keys() - known):
            raise SampleError(f"unknown field {unknown[0]!r}", where=where, hint="convert the set again")
        for name, (accepts, wanted) in _TYPES.items():
            if name in values and not accepts(values[name]):
                raise SampleError(f"{name} is {brief(values[name])}, not {wanted}", where=where)
        if values["kind"] not in KINDS:
            raise SampleError(
                f"unknown kind {brief(values['kind'])}", where=where, hint=nearest_of(values["kind"], KINDS)
            )
        if (markers := values["question"].count("<image>")) != len(values["images"]):
            problem = f"the question holds {markers} <image> markers for {len(values['images'])} cameras"
            raise SampleError(problem, where=where, hint="nuScenes has six: " + ", ".join(CAMERAS))
        try:
            values["convention"] = Convention(values["convention"]["cameras"], values["convention"]["command"])
        except (KeyError, ValueError) as error:
            problem = f"{brief(values['convention'])} is not a convention of cameras and command"
            raise SampleError(problem, where=where, hint="convert the set again") from error
        if spelt := [name for name in values["images"].values() if "\\" in name]:
            raise SampleError(f"image path {spelt[0]!a} has backslashes", where=where, hint="write paths with slashes")
        if values["convention"].cameras == "upstream" and values["images"].keys() != _NUSCENES:
            problem = "the camera order 'upstream' is one of nuScenes' six cameras"
            raise SampleError(problem, where=where, hint="use 'corrected', and name the cameras in the labels' order")
        if values.get("trajectory") is not None:
            values["trajectory"] = tuple((float(x), float(y)) for x, y in values["trajectory"])
        if values.get("objects") is not None:
            values["objects"] = read_objects(values["objects"], values["images"].keys(), where)
        return cls(**values)


def _is_text(value: object) -> bool:
    """Refuses lone surrogates, which JSON can spell and no file can hold."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    """Refuses NaN, infinities and integers that no float holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _are_images(value: object) -> bool:
    return isinstance(value, dict) and all(_is_text(text) and text for pair in value.items() for text in pair)


def _is_trajectory(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(point, list | tuple) and len(point) == 2 and all(map(_is_number, point)) for point in value
    )


_TYPES: dict[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(("token", "scene", "kind", "question", "answer", "source", "description"), (_is_text, "a text")),
    **dict.fromkeys(("timestamp", "index"), (_is_whole, "a whole number")),
    "images": (_are_images, "an image path by camera"),
    "speed": (lambda value: value is None or _is_number(value), "a number or null"),
    "command": (lambda value: value is None or _is_text(value), "a text or null"),
    "convention": (lambda value: isinstance(value, dict), "an object"),
    "trajectory": (lambda value: value is None or _is_trajectory(value), "a list of [x, y] or null"),
}
"""What a decoded field must be, and how to say so."""


def write_samples(path: FilePath | str, samples: Iterable[PlanningSample]) -> int:
    """Write samples as JSON Lines, atomically. Returns their number.

    Raises:
        FileError: the file cannot be written.
    """
    return write_whole(path, (json.dumps(sample.to_dict(), ensure_ascii=False) + "\n" for sample in samples))


def iter_samples(path: FilePath | str) -> Iterator[PlanningSample]:
    """Read a planning set line by line.

    Raises:
        SampleError: the file is absent, or a line is not a valid sample (named by its number).
        FileError: the file cannot be read.
    """
    if not os.path.exists(path):  # noqa: PTH110 - `Path.exists` fails for a name that is too long
        raise SampleError("no such planning set", where=path, hint="write one with senna-prune convert")
    with open_regular(path) as lines, accessing(path, "read"):
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _sample_of(line, f"{path}:{number}")


def _sample_of(line: bytes, where: str) -> PlanningSample:
    record = decode_json(line, where, hint="convert the set again", error=SampleError)
    return PlanningSample.from_dict(record, where=where)


def read_samples(path: FilePath | str, kind: str | None = None) -> list[PlanningSample]:
    """All samples of a planning set, or those of one kind; refuses an empty set and duplicate keys."""
    samples = list(iter_samples(path))
    if not samples:
        raise SampleError("the planning set is empty", where=path, hint="convert it again")
    seen: set[str] = set()
    for sample in samples:
        if sample.key in seen:
            raise SampleError(f"sample {sample.key} is in it twice", where=path, hint="convert it again")
        seen.add(sample.key)
    return [sample for sample in samples if kind in (None, sample.kind)]
