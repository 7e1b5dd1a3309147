"""Draws streets, speeds and commands so that every cause and every answer is frequent enough to be learnt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from senna_prune.task.labels import Command, Path, Speed
from tools.demo.world.street import (
    Ahead,
    Alongside,
    Light,
    Plan,
    Side,
    Signal,
    Street,
    expert_plan,
)

CITY_SPEEDS = range(5, 12)
HIGHWAY_SPEEDS = range(18, 26)
"""Displayed speeds, m/s. A lane change needs 18: its 4.2 m must be reached within 5 degrees after 3 s, also while
slowing down. Between 2 and 5 m/s a car could not lose the 3 m/s that the label DECELERATE asks for."""
TURN_COMMANDS = (Command.LEFT, Command.RIGHT, Command.STRAIGHT_LEFT, Command.STRAIGHT_RIGHT)

PLAN_WEIGHTS: dict[Plan, float] = {
    (Speed.KEEP, Path.STRAIGHT): 0.11,
    (Speed.ACCELERATE, Path.STRAIGHT): 0.11,
    (Speed.DECELERATE, Path.STRAIGHT): 0.13,
    (Speed.STOP, Path.STRAIGHT): 0.10,
    **{(speed, path): 0.05 for speed in (Speed.KEEP, Speed.ACCELERATE) for path in (Path.LEFT_TURN, Path.RIGHT_TURN)},
    **{(Speed.DECELERATE, path): 0.05 for path in (Path.LEFT_TURN, Path.RIGHT_TURN)},
    **{
        (speed, path): 0.042
        for speed in (Speed.KEEP, Speed.ACCELERATE, Speed.DECELERATE)
        for path in (Path.LEFT_CHANGE, Path.RIGHT_CHANGE)
    },
}
"""Share of each answer in the world. STOP goes only with STRAIGHT: a standing car moves no 4 m sideways."""


@dataclass(frozen=True, slots=True)
class Situation:
    """One question about one street.

    Attributes:
        speed: m/s, exact; the question displays its whole part.
    """

    street: Street
    speed: float
    command: Command

    @property
    def plan(self) -> Plan:
        return expert_plan(self.street, self.speed, self.command)


def sample_street(rng: np.random.Generator) -> Street:
    """A street in which no single cause is rare."""
    return _sample_highway(rng) if rng.random() < 0.42 else _sample_city(rng)


def sample_question(rng: np.random.Generator, street: Street) -> tuple[float, Command]:
    """A speed (m/s, exact) and a command that make sense on this street."""
    if street.road == "highway":
        return _within(rng, int(rng.choice(HIGHWAY_SPEEDS))), Command.STRAIGHT
    if rng.random() < 0.2:
        speed = _within(rng, int(rng.integers(0, 2)))
    else:
        speed = _within(rng, int(rng.choice(CITY_SPEEDS)))
    if rng.random() < 0.3:
        return speed, Command.STRAIGHT
    return speed, TURN_COMMANDS[int(rng.integers(len(TURN_COMMANDS)))]


def sample_situation(rng: np.random.Generator, plan: Plan | None = None) -> Situation:
    """A situation whose expert plan is `plan`, or one drawn from `PLAN_WEIGHTS`; rejects until it fits."""
    if plan is None:
        plans, weights = list(PLAN_WEIGHTS), np.array(list(PLAN_WEIGHTS.values()))
        plan = plans[int(rng.choice(len(plans), p=weights / weights.sum()))]
    while True:
        street = sample_street(rng)
        speed, command = sample_question(rng, street)
        if expert_plan(street, speed, command) == plan:
            return Situation(street, speed, command)


def _within(rng: np.random.Generator, displayed: int) -> float:
    """An exact speed that is displayed as `displayed` whatever the rounding of poses does."""
    return displayed + float(rng.uniform(0.25, 0.75))


def _sample_city(rng: np.random.Generator) -> Street:
    light: Light = ("none", "red", "green")[int(rng.choice(3, p=[0.55, 0.15, 0.3]))]
    ahead: Ahead = ("nothing", "following", "braking")[int(rng.choice(3, p=[0.45, 0.4, 0.15]))]
    left, right = _sample_city_side(rng), _sample_city_side(rng)
    return Street(
        road="city",
        light=light,
        ahead=ahead,
        signal=_sample_signal(rng, ahead, left.street, right.street),
        pedestrian=bool(rng.random() < 0.4),
        ambulance=bool(rng.random() < 0.13),
        left=left,
        right=right,
    )


def _sample_signal(rng: np.random.Generator, ahead: Ahead, to_left: bool, to_right: bool) -> Signal:
    """Only a car that is followed shows one, and only where the road lets it go there."""
    signal: Signal = ("none", "left", "right")[int(rng.choice(3, p=[0.4, 0.3, 0.3]))]
    possible = {"none": True, "left": to_left, "right": to_right}[signal]
    return signal if ahead == "following" and possible else "none"


def _sample_city_side(rng: np.random.Generator) -> Side:
    street = bool(rng.random() < 0.7)
    return Side(
        street=street,
        pedestrian=street and bool(rng.random() < 0.45),
        vehicle="behind" if rng.random() < 0.28 else "none",
    )


def _sample_highway(rng: np.random.Generator) -> Street:
    ahead: Ahead = ("nothing", "following", "braking", "truck", "barrier")[
        int(rng.choice(5, p=[0.2, 0.2, 0.2, 0.2, 0.2]))
    ]
    ambulance = bool(rng.random() < 0.35)
    occupied = [bool(rng.random() < 0.5), bool(rng.random() < 0.5)]
    if (ambulance or ahead in ("truck", "barrier")) and not any(occupied):
        # Which free lane to prefer would be a convention without evidence in the images.
        occupied[int(rng.integers(2))] = True
    vehicles: list[Alongside] = [(("behind", "front")[int(rng.integers(2))] if taken else "none") for taken in occupied]
    return Street(
        road="highway",
        ahead=ahead,
        signal=_sample_signal(rng, ahead, to_left=True, to_right=True),
        ambulance=ambulance,
        left=Side(vehicle=vehicles[0]),
        right=Side(vehicle=vehicles[1]),
    )
