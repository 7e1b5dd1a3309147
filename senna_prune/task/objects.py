"""Objects of a frame: what a planning set may tell about each, for the audit of what a pruner drops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

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
