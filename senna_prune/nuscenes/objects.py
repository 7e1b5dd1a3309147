"""Annotated objects: questions about those ahead and in each view, and where the cameras see each.

A question names vulnerable road users ahead, or asks what the objects of a view will do.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import product

import numpy as np
from numpy.typing import NDArray

from senna_prune.nuscenes import questions
from senna_prune.nuscenes.behaviour import FUTURE_STEPS, STEP_SECONDS, VIEWS, path_labels, speed_labels, view_numbers
from senna_prune.nuscenes.questions import Question
from senna_prune.nuscenes.scene import Boxes, Scene
from senna_prune.task.objects import SeenObject

VRU_CLASSES = frozenset({"bicycle", "motorcycle", "pedestrian"})

VRU_RANGE = 20.0
"""Metres; road users farther away are not named."""

MOTION_RANGE = np.array([40.0, 20.0, 20.0, 20.0, 20.0, 20.0])
"""Metres, by view in the order of `VIEWS`."""

PATH_AHEAD = 30.0
"""Metres that the car's way goes straight on where its next 3 s end."""

PATH_ASIDE = 2.0
"""Metres from the middle of that way within which an object's centre is on it."""

_CORNERS = np.array(list(product((1.0, -1.0), repeat=3))) / 2


def vru_questions(scene: Scene) -> list[list[Question]]:
    """One question about every keyframe, by keyframe."""
    boxes, local = _local(scene)
    near = (view_numbers(local) == VIEWS.index("front")) & (np.linalg.norm(local, axis=1) < VRU_RANGE)
    seen: dict[int, list[tuple[str, float, float]]] = defaultdict(list)
    for box in near.nonzero()[0].tolist():
        if boxes.names[box] in VRU_CLASSES:
            seen[int(boxes.keyframe[box])].append((boxes.names[box], *local[box].tolist()))
    return [[Question(questions.VRU_QUESTION, questions.vru_answer(seen[number]))] for number in range(len(scene))]


def motion_questions(scene: Scene) -> list[list[Question]]:
    """A question about every view that holds an object near enough whose next 3 s are annotated, by keyframe.

    An object's speed is that of its step from 0.5 s to 1 s ahead, as in the reference.
    """
    boxes, local = _local(scene)
    views = view_numbers(local)
    following = np.append(boxes.next, -1)  # so that -1, the end of an annotation, leads to -1
    future = np.empty((len(following) - 1, FUTURE_STEPS), dtype=np.intp)  # numbers of each object's next six boxes
    at = np.arange(len(future))
    for step in range(FUTURE_STEPS):
        future[:, step] = at = following[at]
    asked = (np.linalg.norm(local, axis=1) < MOTION_RANGE[views]) & (future >= 0).all(axis=1)
    chosen = asked.nonzero()[0]
    # Seen from the object (x to its right, y forward). The reference treats it as if it were the car and takes the view
    # of the lidar it would carry, a metre ahead of its centre: angles of short paths are a little off for it.
    ahead = boxes.poses[chosen].from_parent(boxes.poses.translation[future[chosen]])
    trajectories = scene.lidar[boxes.keyframe[chosen]].from_parent(ahead)[..., :2].astype(np.float32)
    speeds = (np.linalg.norm(trajectories[:, 1] - trajectories[:, 0], axis=1) / STEP_SECONDS).tolist()
    plans = list(zip(speed_labels(trajectories), path_labels(trajectories), strict=True))
    members: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(boxes.keyframe[chosen].tolist(), views[chosen].tolist(), strict=True)):
        members[key].append(row)
    found: list[list[Question]] = [[] for _ in scene.tokens]
    for (keyframe, view), rows in sorted(members.items()):
        objects = [(boxes.names[chosen[row]], *local[chosen[row]].tolist(), speeds[row]) for row in rows]
        question = questions.motion_question(VIEWS[view], objects)
        found[keyframe].append(Question(question, questions.motion_answer([plans[row] for row in rows]), index=view))
    return found


def _local(scene: Scene) -> tuple[Boxes, NDArray[np.float64]]:
    """The boxes of a scene and their centres in the lidar frame of their keyframe, shape (A, 2)."""
    assert scene.boxes is not None
    keyframe, centres = scene.boxes.keyframe, scene.boxes.poses.translation
    return scene.boxes, scene.lidar[keyframe].from_parent(scene.ego[keyframe].from_parent(centres))[:, :2]


def seen_objects(scene: Scene) -> list[tuple[SeenObject, ...]]:
    """The objects that a camera sees, in table order, by keyframe: what the audit of a pruner is about."""
    boxes, views = scene.boxes, scene.views
    assert boxes is not None
    assert views is not None
    corners = boxes.poses.to_parent(_CORNERS[None] * boxes.sizes[:, None, :])
    by_camera = {camera: view.project(corners, boxes.keyframe) for camera, view in views.items()}
    centres = scene.ego[boxes.keyframe].from_parent(boxes.poses.translation)[:, :2]
    distances = np.linalg.norm(centres, axis=1).round(2).tolist()
    on_path = (_aside(scene, boxes, centres) <= PATH_ASIDE).tolist()
    found: list[list[SeenObject]] = [[] for _ in scene.tokens]
    for box, keyframe in enumerate(boxes.keyframe.tolist()):
        if seen := {camera: place for camera, places in by_camera.items() if (place := places[box]) is not None}:
            told = boxes.names[box], seen, distances[box], boxes.instances[box], boxes.visibility[box], on_path[box]
            found[keyframe].append(SeenObject(*told))
    return [tuple(objects) for objects in found]


def _aside(scene: Scene, boxes: Boxes, centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Metres on the ground from the way the car takes to each box's centre, shape (A,).

    The way is that of its next 3 s, or as far as the scene goes, and from there straight on.
    """
    last = np.minimum(np.arange(len(scene)) + FUTURE_STEPS, len(scene) - 1)
    ahead = scene.ego[last].to_parent(np.tile([PATH_AHEAD, 0.0, 0.0], (len(scene), 1)))
    points = np.concatenate([scene.future(FUTURE_STEPS, scene.ego.translation), ahead[:, None]], axis=1)
    way = scene.ego.from_parent(points)[..., :2][boxes.keyframe]
    start, step = way[:, :-1], np.diff(way, axis=1)
    offset = centres[:, None] - start
    along = np.clip((offset * step).sum(-1) / np.maximum((step**2).sum(-1), 1e-9), 0, 1)
    return np.linalg.norm(offset - along[..., None] * step, axis=-1).min(axis=1)
