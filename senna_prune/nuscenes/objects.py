"""Questions about annotated objects: vulnerable road users ahead, and what the objects of each view will do."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from senna_prune.nuscenes import questions
from senna_prune.nuscenes.behaviour import FUTURE_STEPS, STEP_SECONDS, VIEWS, path_labels, speed_labels, view_numbers
from senna_prune.nuscenes.questions import Question
from senna_prune.nuscenes.scene import Boxes, Scene

VRU_CLASSES = frozenset({"bicycle", "motorcycle", "pedestrian"})

VRU_RANGE = 20.0
"""Metres; road users farther away are not named."""

MOTION_RANGE = np.array([40.0, 20.0, 20.0, 20.0, 20.0, 20.0])
"""Metres, by view in the order of `VIEWS`."""


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
    future = _future_boxes(boxes)
    asked = (np.linalg.norm(local, axis=1) < MOTION_RANGE[views]) & (future >= 0).all(axis=1)
    chosen = asked.nonzero()[0]
    trajectories = _own_trajectories(scene, boxes, chosen, future[chosen])
    speeds = (np.linalg.norm(trajectories[:, 1] - trajectories[:, 0], axis=1) / STEP_SECONDS).tolist()
    plans = list(zip(speed_labels(trajectories), path_labels(trajectories), strict=True))
    places = local[chosen].tolist()
    members: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(boxes.keyframe[chosen].tolist(), views[chosen].tolist(), strict=True)):
        members[key].append(row)
    found: list[list[Question]] = [[] for _ in scene.tokens]
    for (keyframe, view), rows in sorted(members.items()):
        objects = [(boxes.names[chosen[row]], *places[row], speeds[row]) for row in rows]
        question = questions.motion_question(VIEWS[view], objects)
        found[keyframe].append(Question(question, questions.motion_answer([plans[row] for row in rows]), index=view))
    return found


def _local(scene: Scene) -> tuple[Boxes, NDArray[np.float64]]:
    """The boxes of a scene and their centres in the lidar frame of their keyframe, shape (A, 2)."""
    assert scene.boxes is not None
    keyframe, centres = scene.boxes.keyframe, scene.boxes.poses.translation
    return scene.boxes, scene.lidar[keyframe].from_parent(scene.ego[keyframe].from_parent(centres))[:, :2]


def _future_boxes(boxes: Boxes) -> NDArray[np.intp]:
    """Numbers of each object's next six boxes, shape (A, 6), -1 where its annotation has ended."""
    following = np.append(boxes.next, -1)  # so that -1 leads to -1
    steps = [following[:-1]]
    for _ in range(FUTURE_STEPS - 1):
        steps.append(following[steps[-1]])
    return np.stack(steps, axis=1)


def _own_trajectories(
    scene: Scene, boxes: Boxes, chosen: NDArray[np.intp], future: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Future centres of the chosen objects, shape (M, 6, 2), seen from the object: x to its right, y forward.

    The reference treats the object as if it were the car and takes the point of view of the lidar it would carry, about
    a metre ahead of its centre; angles of short paths are a little off for it.
    """
    centres = boxes.poses.translation[future]
    from_object = boxes.poses[chosen].from_parent(centres)
    return scene.lidar[boxes.keyframe[chosen]].from_parent(from_object)[..., :2].astype(np.float32)
