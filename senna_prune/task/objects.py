"""Objects of a frame: what a planning set may tell about each, for the audit of what a pruner drops."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

import msgspec

from senna_prune.errors import SampleError

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the image file; right and bottom lie outside the box."""


@dataclass(frozen=True, slots=True)
class SeenObject:
    """One object in one frame.

    Attributes:
        name: class, e.g. `pedestrian` or `car`.
        boxes: where it is seen, by camera, clipped to the image; an object may be seen by several.
        distance: metres on the ground from the car to its centre; None: not known.
        instance: the same for one object in all frames; empty: not known.
        visibility: share of it that is not hidden, as nuScenes bins it (1: up to 40 %, 4: above 80 %); None: not known.
        on_path: whether it stands in the way that the car is going to take; None: not known.
    """

    name: str
    boxes: Mapping[str, Box]
    distance: float | None = None
    instance: str = ""
    visibility: int | None = None
    on_path: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a planning set."""
        return asdict(self) | {"boxes": {camera: list(box) for camera, box in self.boxes.items()}}


def read_objects(records: object, cameras: Collection[str], where: str) -> tuple[SeenObject, ...]:
    """The objects of one decoded sample.

    Args:
        cameras: that the sample has.

    Raises:
        SampleError: a field is missing, unknown or of the wrong type, or a box is none of an image.
    """
    try:
        found = msgspec.convert(records, tuple[SeenObject, ...])
    except msgspec.ValidationError as error:
        raise SampleError(f"objects: {error}", where=where) from error
    for number, (seen, record) in enumerate(zip(found, cast(list[dict[str, Any]], records), strict=True)):
        if fault := _fault(seen, record, cameras):
            raise SampleError(f"object {number}: {fault}", where=where)
    return found


def _fault(seen: SeenObject, record: Mapping[str, Any], cameras: Collection[str]) -> str | None:
    if unknown := record.keys() - {field.name for field in fields(seen)}:
        return f"unknown field {min(unknown)!a}"
    if not seen.name or not (seen.name + seen.instance).isprintable():
        return f"name {seen.name!a} and instance {seen.instance!a} are not printable texts"
    for camera, (left, top, right, bottom) in seen.boxes.items():
        if camera not in cameras:
            return f"the sample has no camera {camera!a}"
        if not (0 <= left < right < math.inf and 0 <= top < bottom < math.inf):
            return f"the box in {camera} is not left, top, right, bottom in pixels"
    if seen.distance is not None and not 0 <= seen.distance < math.inf:
        return f"the distance {seen.distance} is none"
    if seen.visibility not in (None, 1, 2, 3, 4):
        return f"the visibility {seen.visibility} is not 1 to 4"
    return None
