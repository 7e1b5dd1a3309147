"""A demo scene's boxes as the converter sees them, so that its questions can be asked about any scene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from senna_prune.nuscenes.geometry import Poses
from senna_prune.nuscenes.objects import motion_questions, vru_questions
from senna_prune.nuscenes.questions import Question
from senna_prune.nuscenes.scene import CATEGORY_NAMES, Boxes, Scene
from tools.demo.world.furniture import Thing, from_left
from tools.demo.world.rig import LIDAR_QUATERNION, LIDAR_TRANSLATION


def box_poses(thing: Thing, ego: np.ndarray) -> list[tuple[list[float], list[float]]]:
    """Translation and rotation of a thing's box at the rendered keyframe and the six after it, as the tables hold them.

    Args:
        ego: x, y, heading of the car at the rendered keyframe in the global frame.
    """
    x, y, heading = (float(value) for value in ego)
    cos, sin = math.cos(heading), math.sin(heading)
    boxes = []
    for along, aside, turned in thing.motion.poses().tolist():
        ahead, left = thing.centre[0] + along, thing.centre[1] + aside
        place = (x + ahead * cos - left * sin, y + ahead * sin + left * cos, thing.centre[2])
        boxes.append(([round(value, 3) for value in place], yaw_quaternion(heading + turned)))
    return boxes


def yaw_quaternion(heading: float) -> list[float]:
    """(w, x, y, z) of a turn about the vertical axis, rounded as the tables hold it."""
    return [round(math.cos(heading / 2), 8), 0.0, 0.0, round(math.sin(heading / 2), 8)]


def mirror_things(things: Sequence[Thing]) -> tuple[Thing, ...]:
    """What a mirrored scene's annotator would box."""
    return from_left(
        replace(thing, centre=(thing.centre[0], -thing.centre[1], thing.centre[2]), motion=thing.motion.mirrored())
        for thing in things
    )


def scene_questions(things: Sequence[Thing]) -> tuple[list[Question], list[Question]]:
    """The converter's road-user question and its motion questions about the rendered keyframe."""
    boxes = [box_poses(thing, np.zeros(3)) for thing in things]
    keyframes = max(1, *map(len, boxes)) if boxes else 1
    # keyframe by keyframe, as the converter reads them
    flat = [(keyframe, number) for keyframe in range(keyframes) for number in range(len(boxes))]
    following = [place + len(boxes) if keyframe + 1 < keyframes else -1 for place, (keyframe, _) in enumerate(flat)]
    poses = [boxes[number][keyframe] for keyframe, number in flat]
    names = (things[number].category for _, number in flat)
    scene = Scene(
        name="demo",
        token="demo",
        tokens=tuple(str(keyframe) for keyframe in range(keyframes)),
        timestamps=np.arange(keyframes, dtype=np.int64),
        ego=_frames([([0.0] * 3, [1.0, 0.0, 0.0, 0.0])] * keyframes),
        lidar=_frames([(list(LIDAR_TRANSLATION), [round(part, 9) for part in LIDAR_QUATERNION])] * keyframes),
        images=({},) * keyframes,
        boxes=Boxes(
            keyframe=np.array([keyframe for keyframe, _ in flat], dtype=np.intp),
            poses=_frames(poses),
            next=np.array(following, dtype=np.intp),
            names=tuple(CATEGORY_NAMES.get(name, name) for name in names),
        ),
    )
    return vru_questions(scene)[0], motion_questions(scene)[0]


def _frames(poses: Sequence[tuple[list[float], list[float]]]) -> Poses:
    translation = np.array([place for place, _ in poses], dtype=np.float64).reshape(len(poses), 3)
    rotation = np.array([turn for _, turn in poses], dtype=np.float64).reshape(len(poses), 4)
    return Poses.from_quaternions(translation, rotation)
