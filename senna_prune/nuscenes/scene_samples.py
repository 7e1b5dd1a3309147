"""From one scene's arrays to its planning samples. Worker processes import it: it needs neither devkit nor torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from senna_prune.nuscenes.behaviour import FUTURE_STEPS, HORIZON_STEPS, VIEWS, command_of, path_labels, speed_labels
from senna_prune.nuscenes.ego_speed import SpeedOrigin, shown_speeds, speed_origin
from senna_prune.nuscenes.objects import motion_questions, seen_objects, vru_questions
from senna_prune.nuscenes.questions import TRAFFIC_LIGHT_QUESTION, Question, description_question, explanation_question
from senna_prune.nuscenes.scene import Scene, is_file
from senna_prune.task.labels import CAMERAS, KINDS, CameraOrder, Command, plan_text
from senna_prune.task.prompts import IMAGE_PROMPT, plan_question
from senna_prune.task.sample import PlanningSample

if TYPE_CHECKING:
    from senna_prune.nuscenes.conversion import ConversionSettings

Asked = list[list[Question]]
"""Questions by keyframe."""

BOX_KINDS = frozenset({"vru", "motion"})
"""Kinds that need annotated boxes."""

PLAN_KINDS = frozenset({"plan", "explanation"})
"""Kinds that need the car's next 3 s. The reference also explains plans cut short by the scene's end; we do not."""

CAPTION_KINDS = frozenset({"traffic_light", "description", "explanation"})
"""Kinds whose answers come from a captioner."""

NO_FUTURE = "the scene ends within 3 s"
NO_SPEED = "no speed from this source"
NO_RECORD = "a camera has no record"
NO_IMAGE = "an image file is missing"


@dataclass
class SceneResult:
    """What became of one scene.

    Attributes:
        keyframes: their number, used or not.
        samples: in time order, within a keyframe in the order of `KINDS`; captioned kinds still lack their answer.
        skipped: numbers of keyframes left out, by (kind, reason).
        missing_images: paths relative to the data root.
        speed_origin: where the shown speed comes from; None where no kind shows it or the source has none.
    """

    keyframes: int
    speed_origin: SpeedOrigin | None = None
    samples: list[PlanningSample] = field(default_factory=list)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)
    missing_images: list[str] = field(default_factory=list)


def scene_samples(scene: Scene, settings: ConversionSettings, sources: Mapping[str, str]) -> SceneResult:
    """All samples of a scene.

    Args:
        sources: table digest by kind; the samples of `PLAN_KINDS` add where their speed comes from.
    """
    told = PLAN_KINDS & {*settings.kinds}
    origin = speed_origin(scene, settings.speed_source) if told else None
    result = SceneResult(keyframes=len(scene), speed_origin=origin)
    sources = {**sources, **{kind: f"{sources[kind]}/{origin}" for kind in told}}
    image_root = settings.dataroot if settings.require_images else None
    future = scene.lidar_future(FUTURE_STEPS)
    asked = _questions(scene, future, settings)
    seen = seen_objects(scene) if settings.objects else [None] * len(scene)
    shown = np.round(future[:, 1:], 4).tolist()
    for number, (token, images) in enumerate(zip(scene.tokens, scene.images, strict=True)):
        steps_left = min(FUTURE_STEPS, len(scene) - 1 - number)
        kinds = [kind for kind in asked if asked[kind][number]]
        for kind in PLAN_KINDS & asked.keys() - set(kinds):
            result.skipped[kind, NO_SPEED if steps_left == FUTURE_STEPS else NO_FUTURE] += 1
        if kinds and (reason := _unusable(images, image_root, result.missing_images)):
            result.skipped.update((kind, reason) for kind in kinds)
            continue
        result.samples += [
            PlanningSample(
                token=token,
                scene=scene.name,
                timestamp=int(scene.timestamps[number]),
                kind=kind,
                images=images,
                question=IMAGE_PROMPT + one.question,
                answer=one.answer,
                speed=one.speed,
                command=one.command,
                convention=settings.convention,
                index=one.index,
                trajectory=tuple((x, y) for x, y in shown[number][:steps_left]),
                source=sources[kind],
                description=scene.description if settings.descriptions else "",
                objects=seen[number],
            )
            for kind in kinds
            for one in asked[kind][number]
        ]
    return result


def _questions(scene: Scene, future: NDArray[np.float64], settings: ConversionSettings) -> dict[str, Asked]:
    """Questions by wanted kind, in the order of `KINDS`, and by keyframe."""
    descriptions = [Question(description_question(view), index=index) for index, view in enumerate(VIEWS)]
    ask: dict[str, Callable[[], Asked]] = {
        "vru": lambda: vru_questions(scene),
        "motion": lambda: motion_questions(scene),
        "traffic_light": lambda: [[Question(TRAFFIC_LIGHT_QUESTION)]] * len(scene),
        "description": lambda: [descriptions] * len(scene),
        "plan": lambda: _plan_questions(scene, future, settings, explain=False),
        "explanation": lambda: _plan_questions(scene, future, settings, explain=True),
    }
    return {kind: ask[kind]() for kind in KINDS if kind in settings.kinds}


def commands(scene: Scene, convention: CameraOrder) -> list[Command]:
    """Navigation command of every keyframe.

    `corrected` applies the thresholds to the ego position six seconds on in the ego frame (x forward, y left), which is
    what they mean. `upstream` applies them to the lidar frame (x right, y forward), as the released converter does:
    there, driving straight on for ten metres reads `turn left`.
    """
    targets = scene.lidar_future(HORIZON_STEPS)[:, -1]
    if convention == "corrected":
        targets = scene.ego.from_parent(scene.future(HORIZON_STEPS, scene.ego.translation))[:, -1, :2]
    return [command_of(float(x), float(y)) for x, y in targets]


def _plan_questions(scene: Scene, future: NDArray[np.float64], settings: ConversionSettings, explain: bool) -> Asked:
    """The question about the car's own plan, or why it was taken; none where the scene ends within 3 s or
    the source has no speed."""
    trajectories = np.cumsum(np.diff(future, axis=1).astype(np.float32), axis=1)  # the reference's precision
    plans = zip(speed_labels(trajectories), path_labels(trajectories), strict=True)
    speeds = shown_speeds(scene, settings.speed_source).tolist()
    directions = commands(scene, settings.convention.command)
    found: Asked = [[] for _ in scene.tokens]
    for number, (speed, told, plan) in enumerate(zip(speeds, directions, plans, strict=True)):
        if number < len(scene) - FUTURE_STEPS and not np.isnan(speed):
            text = explanation_question(speed, told, plan) if explain else plan_question(speed, told.value)
            answer = "" if explain else plan_text(*plan) + "\n"
            found[number] = [Question(text, answer, speed=speed, command=told.value)]
    return found


def _unusable(images: Mapping[str, str], image_root: Path | None, missing: list[str]) -> str | None:
    """Why a keyframe's images cannot be used, noting the files that are missing."""
    if len(images) != len(CAMERAS):
        return NO_RECORD
    if image_root is None:
        return None
    absent = [path for path in images.values() if not is_file(image_root / path)]
    missing += absent
    return NO_IMAGE if absent else None
