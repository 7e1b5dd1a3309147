"""The plan of the car itself at a keyframe: shown speed, navigation command, and the meta-action it drove."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from senna_prune.nuscenes import questions
from senna_prune.nuscenes.behaviour import FUTURE_STEPS, path_labels, speed_labels
from senna_prune.nuscenes.ego_speed import SpeedSource, shown_speeds
from senna_prune.nuscenes.navigation import commands
from senna_prune.nuscenes.questions import Question
from senna_prune.nuscenes.scene import Scene
from senna_prune.task.labels import CameraOrder, Command, Path, Speed
from senna_prune.task.prompts import plan_question


@dataclass(frozen=True, slots=True)
class EgoPlan:
    """One keyframe with a full 3 s future: shown speed in m/s, navigation command, meta-action driven."""

    speed: float
    command: Command
    plan: tuple[Speed, Path]

    def planning(self) -> Question:
        question = plan_question(self.speed, self.command.value)
        return Question(question, questions.plan_answer(self.plan), speed=self.speed, command=self.command.value)

    def explanation(self) -> Question:
        question = questions.explanation_question(self.speed, self.command, self.plan)
        return Question(question, speed=self.speed, command=self.command.value)


def ego_plans(
    scene: Scene, future: NDArray[np.float64], command_convention: CameraOrder, speed_source: SpeedSource
) -> list[EgoPlan | None]:
    """The plan of every keyframe; None where the scene ends within 3 s or the source has no speed.

    Args:
        future: lidar positions now and at the next six keyframes, shape (N, 7, 2), of `navigation.lidar_future`.
    """
    trajectories = np.cumsum(np.diff(future, axis=1).astype(np.float32), axis=1)  # the reference's precision
    plans = zip(speed_labels(trajectories), path_labels(trajectories), strict=True)
    speeds = shown_speeds(scene, speed_source).tolist()
    told = commands(scene, command_convention)
    whole = len(scene) - FUTURE_STEPS
    return [
        EgoPlan(speed, command, plan) if number < whole and not np.isnan(speed) else None
        for number, (speed, command, plan) in enumerate(zip(speeds, told, plans, strict=True))
    ]
