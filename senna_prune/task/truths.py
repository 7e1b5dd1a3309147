"""What a reference answer must say, by kind of question, so that answers can be scored against it."""

from __future__ import annotations

from collections.abc import Callable

from senna_prune.task.answers import parse_answer
from senna_prune.task.labels import PLAN
from senna_prune.task.scene_answers import parse_light, parse_motions, parse_road_users


def _names_every_plan(text: str) -> bool:
    motions = parse_motions(text)
    return motions.parsed and all(motion.parsed for motion in motions.objects.values())


_NEEDED: dict[str, tuple[Callable[[str], bool], str]] = {
    PLAN: (lambda text: parse_answer(text).parsed, "is no plan"),
    "vru": (lambda text: parse_road_users(text).parsed, "says neither yes nor no"),
    "motion": (_names_every_plan, "does not name a speed and a path for each object"),
    "traffic_light": (lambda text: parse_light(text) is not None, "names no traffic light, and not 'None'"),
}


def fault_of(kind: str, truth: str) -> str | None:
    """What keeps a text from being the reference answer to a question of this kind; None where nothing does.

    Descriptions and explanations are free text: only an empty one is refused.
    """
    holds, fault = _NEEDED.get(kind, (lambda text: bool(text.strip()), "is empty"))
    return None if holds(truth) else fault
