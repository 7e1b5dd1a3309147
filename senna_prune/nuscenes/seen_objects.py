"""Annotated objects as the cameras see them: boxes of their projected corners, for the audit of what a pruner drops.

As in the devkit (`export_2d_annotations_as_json`), corners are taken to the time of the image, and a box is that of the
hull of those in front of the camera, cut at the image's edges.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from senna_prune.nuscenes.behaviour import FUTURE_STEPS
from senna_prune.nuscenes.camera_views import CameraViews
from senna_prune.nuscenes.navigation import future_origins
from senna_prune.nuscenes.scene import Boxes, Scene
from senna_prune.task.objects import Box, SeenObject

Floats = NDArray[np.float64]

PATH_AHEAD = 30.0
"""Metres that the car's way goes straight on where its next 3 s end."""

PATH_ASIDE = 2.0
"""Metres from the middle of that way within which an object's centre is on it."""

_CORNERS = np.array(list(product((1.0, -1.0), repeat=3))) / 2


def seen_objects(scene: Scene) -> list[tuple[SeenObject, ...]]:
    """The objects that a camera sees, in table order, by keyframe."""
    boxes, views = scene.boxes, scene.views
    assert boxes is not None
    assert views is not None
    found: list[list[SeenObject]] = [[] for _ in scene.tokens]
    corners = boxes.poses.to_parent(_CORNERS[None] * boxes.sizes[:, None, :])
    by_camera = {camera: project(corners, view, boxes.keyframe) for camera, view in views.items()}
    centres = scene.ego[boxes.keyframe].from_parent(boxes.poses.translation)[:, :2]
    distances = np.linalg.norm(centres, axis=1).round(2).tolist()
    on_path = (_aside(scene, boxes, centres) <= PATH_ASIDE).tolist()
    for number, keyframe in enumerate(boxes.keyframe.tolist()):
        seen = {camera: box for camera, places in by_camera.items() if (box := places[number]) is not None}
        if seen:
            found[keyframe].append(
                SeenObject(
                    name=boxes.names[number],
                    boxes=seen,
                    distance=distances[number],
                    instance=boxes.instances[number],
                    visibility=boxes.visibility[number],
                    on_path=on_path[number],
                )
            )
    return [tuple(objects) for objects in found]


def project(corners: Floats, views: CameraViews, keyframe: NDArray[np.intp]) -> list[Box | None]:
    """Where one camera sees the corners of boxes, (A, 8, 3) in the global frame; None where it does not.

    Args:
        keyframe: of each box, shape (A,).
    """
    local = views.mount[keyframe].from_parent(views.ego[keyframe].from_parent(corners))
    pixels = np.einsum("nij,ncj->nci", views.intrinsic[keyframe], local)
    in_front = local[..., 2] > 0
    sizes = views.size[keyframe].astype(float)
    found: list[Box | None] = []
    for points, ahead, size, there in zip(pixels, in_front, sizes, views.present[keyframe].tolist(), strict=True):
        place = points[ahead, :2] / points[ahead, 2:]
        found.append(clipped_box(place, size) if there and len(place) else None)
    return found


def clipped_box(points: Floats, size: Floats) -> Box | None:
    """The box around the hull of points, (n, 2), cut at the edges of an image; None where nothing of it is inside."""
    if (points.max(axis=0) <= 0).any() or (points.min(axis=0) >= size).any():
        return None
    if (points.min(axis=0) < 0).any() or (points.max(axis=0) > size).any():
        points = _hull(points)
        for axis, bound, sign in ((0, 0.0, 1), (1, 0.0, 1), (0, size[0], -1), (1, size[1], -1)):
            points = _cut(points, axis, bound, sign)
    if not len(points):
        return None
    (left, top), (right, bottom) = points.min(axis=0).round(2).tolist(), points.max(axis=0).round(2).tolist()
    return (left, top, right, bottom) if left < right and top < bottom else None


def _hull(points: Floats) -> Floats:
    """Corners of the convex hull, in order (Andrew's monotone chain)."""
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))]
    halves = []
    for half in (ordered, ordered[::-1]):
        chain: list[Floats] = []
        for point in half:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        halves += chain[:-1]
    return np.array(halves)


def _turn(first: Floats, second: Floats, third: Floats) -> float:
    (x, y), (u, v) = second - first, third - first
    return float(x * v - y * u)


def _cut(polygon: Floats, axis: int, bound: float, sign: int) -> Floats:
    """The part of a convex polygon on one side of a line (Sutherland-Hodgman)."""
    kept = []
    for one, other in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        here, there = sign * (one[axis] - bound), sign * (other[axis] - bound)
        if here >= 0:
            kept.append(one)
        if here * there < 0:
            kept.append(one + here / (here - there) * (other - one))
    return np.array(kept).reshape(-1, 2)


def _aside(scene: Scene, boxes: Boxes, centres: Floats) -> Floats:
    """Metres on the ground from the way the car takes to each box's centre, shape (A,).

    The way is that of its next 3 s, or as far as the scene goes, and from there straight on.
    """
    global_way = future_origins(scene, FUTURE_STEPS, scene.ego.translation)
    last = np.minimum(np.arange(len(scene)) + FUTURE_STEPS, len(scene) - 1)
    ahead = scene.ego[last].to_parent(np.tile([PATH_AHEAD, 0.0, 0.0], (len(scene), 1)))
    way = scene.ego.from_parent(np.concatenate([global_way, ahead[:, None]], axis=1))[..., :2][boxes.keyframe]
    start, step = way[:, :-1], np.diff(way, axis=1)
    offset = centres[:, None] - start
    along = np.clip((offset * step).sum(-1) / np.maximum((step**2).sum(-1), 1e-9), 0, 1)
    return np.linalg.norm(offset - along[..., None] * step, axis=-1).min(axis=1)
