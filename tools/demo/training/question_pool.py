"""What training asks: plans in long and short words, what is seen, and the converter's questions about objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from senna_prune.nuscenes import questions as words
from senna_prune.nuscenes.behaviour import VIEWS
from senna_prune.task.labels import PLANS, Command, plan_text
from senna_prune.task.prompts import IMAGE_PROMPT, planning_question
from tools.demo.world.annotation import scene_questions
from tools.demo.world.furniture import Thing
from tools.demo.world.sampling import CITY_SPEEDS, HIGHWAY_SPEEDS, sample_question
from tools.demo.world.street import Ahead, Plan, Signal, Street, expert_plan


@dataclass(frozen=True, slots=True)
class Question:
    """A user turn, with its six image markers, and the answer to learn."""

    text: str
    answer: str


_AHEAD_WORDS: dict[Ahead, str] = {
    "nothing": "nothing",
    "following": "car",
    "braking": "braking car",
    "truck": "truck",
    "barrier": "barrier",
}

_SIGNAL_WORDS: dict[Signal, str] = {"none": "nowhere", "left": "to the left", "right": "to the right"}


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _free_lanes(street: Street) -> str:
    sides = (("left", street.left), ("right", street.right))
    return " and ".join(name for name, side in sides if side.vehicle == "none") or "none"


PERCEPTION: tuple[tuple[str, Callable[[Street], str]], ...] = (
    ("Is the traffic light red, green or none?", lambda street: street.light),
    ("What is ahead of you in your lane?", lambda street: _AHEAD_WORDS[street.ahead]),
    ("Is a pedestrian on the road ahead?", lambda street: _yes(street.pedestrian)),
    ("Is an ambulance behind you?", lambda street: _yes(street.ambulance)),
    ("Is a vehicle beside you on the left?", lambda street: _yes(street.left.vehicle != "none")),
    ("Is a vehicle beside you on the right?", lambda street: _yes(street.right.vehicle != "none")),
    ("Is a vehicle beside you in the front left view?", lambda street: _yes(street.left.vehicle == "front")),
    ("Is a vehicle beside you in the front right view?", lambda street: _yes(street.right.vehicle == "front")),
    ("Is a vehicle beside you in the back left view?", lambda street: _yes(street.left.vehicle == "behind")),
    ("Is a vehicle beside you in the back right view?", lambda street: _yes(street.right.vehicle == "behind")),
    ("Does a street open on the left?", lambda street: _yes(street.left.street)),
    ("Does a street open on the right?", lambda street: _yes(street.right.street)),
    ("Is somebody at the crossing on the left?", lambda street: _yes(street.left.pedestrian)),
    ("Is somebody at the crossing on the right?", lambda street: _yes(street.right.pedestrian)),
    ("Which lanes beside you are free?", _free_lanes),
    ("Where is the car ahead about to go?", lambda street: _SIGNAL_WORDS[street.signal]),
)


def short_planning_question(speed: float, command: str) -> str:
    """The planning question in few words: cheap practice of the rule."""
    return f"{IMAGE_PROMPT}Speed {int(speed)} m/s, command '{command}'. Your plan?"


@dataclass(frozen=True, slots=True)
class Mix:
    """How many questions of each kind are asked about a scene.

    Attributes:
        long_plans: planning questions as evaluation asks them. short_plans: the same in few words.
        perception: single facts. road_users, motions: the converter's questions, as far as the scene has them.
    """

    long_plans: int
    short_plans: int
    perception: int
    road_users: int
    motions: int


def sample_questions(rng: np.random.Generator, street: Street, things: Sequence[Thing], mix: Mix) -> list[Question]:
    """Different questions about one scene; plans with speeds and commands that the street allows."""
    num_long = mix.long_plans
    plans = _sample_plans(rng, street, num_long + mix.short_plans)
    questions = []
    for number, (speed, command, plan) in enumerate(plans):
        ask = planning_question if number < num_long else short_planning_question
        questions.append(Question(ask(speed, command.value), plan_text(*plan)))
    for number in rng.choice(len(PERCEPTION), size=mix.perception, replace=False):
        text, answer = PERCEPTION[int(number)]
        questions.append(Question(IMAGE_PROMPT + text, answer(street)))
    for asked, count in zip(object_questions(things), (mix.road_users, mix.motions), strict=True):
        chosen = rng.choice(len(asked), size=min(count, len(asked)), replace=False)
        questions += [asked[int(number)] for number in chosen]
    return questions


def object_questions(things: Sequence[Thing]) -> tuple[list[Question], list[Question]]:
    """The converter's road-user question and motion questions about a scene."""
    road_users, motions = (
        [Question(IMAGE_PROMPT + one.question, one.answer) for one in asked] for asked in scene_questions(things)
    )
    return road_users, motions


def _sample_plans(rng: np.random.Generator, street: Street, count: int) -> list[tuple[float, Command, Plan]]:
    """Prefers speeds and commands that lead to different plans: each then depends on what is seen."""
    drawn = []
    for _ in range(3 * count):
        speed, command = sample_question(rng, street)
        drawn.append((speed, command, expert_plan(street, speed, command)))
    seen: dict[Plan, int] = {}
    ranked = []
    for order, (speed, command, plan) in enumerate(drawn):
        seen[plan] = seen.get(plan, 0) + 1
        ranked.append((seen[plan], order, speed, command, plan))
    chosen = [(speed, command, plan) for _, _, speed, command, plan in sorted(ranked)[:count]]
    return [chosen[int(number)] for number in rng.permutation(count)]


def all_texts() -> Iterator[str]:
    """Every text of training, for the tokenizer."""
    for command in Command:
        for speed in sorted({0, 1, *CITY_SPEEDS, *HIGHWAY_SPEEDS, *range(31)}):
            yield planning_question(speed, command.value)
            yield short_planning_question(speed, command.value)
    for plan in PLANS:
        yield from [plan_text(*plan)] * 20
    for text, _ in PERCEPTION:
        yield from [text] * 20
    yield from ["red", "green", "none", *_AHEAD_WORDS.values(), "yes", "no", "left and right"] * 20
    yield from list(_SIGNAL_WORDS.values()) * 20
    yield from [words.VRU_QUESTION, words.VRU_NONE] * 20
    for along in range(40):
        for aside in (-8.5, -2.5, 0.0, 2.5, 8.5):
            yield words.vru_answer([("pedestrian", aside, along)] * 2)
    for view in VIEWS:
        for number in range(40):
            objects = [
                (name, sign * (number % 12 + 0.5), place * (number + 0.5), (number + shift) % 27)
                for shift, name in enumerate(("car", "truck", "pedestrian", "barrier", "vehicle.emergency.ambulance"))
                for sign, place in ((1, 1), (-1, -1))
            ]
            yield words.motion_question(view, objects)
    for first in PLANS:
        for second in PLANS:
            yield words.motion_answer([first, second, first, second, first])
