"""What a demo scene means (`Street`), and what the expert driver makes of it.

Every cause below shows in one or two cameras: the road ahead in FRONT, side streets and their pedestrians in FRONT
LEFT / FRONT RIGHT, vehicles alongside in BACK LEFT / BACK RIGHT (or the front corners), an ambulance in BACK.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from senna_prune.task.labels import Command, Path, Speed

Road = Literal["city", "highway"]
Light = Literal["none", "red", "green"]
Ahead = Literal["nothing", "following", "braking", "truck", "barrier"]
Alongside = Literal["none", "behind", "front"]
Signal = Literal["none", "left", "right"]
Plan = tuple[Speed, Path]

STANDING_BELOW = 2.0
"""m/s: below this the car counts as standing, as the labels' STOP does."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the car.

    Attributes:
        street: a side street opens within reach (city only).
        pedestrian: somebody crosses that side street.
        vehicle: where a vehicle occupies the neighbouring lane, seen from the car.
    """

    street: bool = False
    pedestrian: bool = False
    vehicle: Alongside = "none"


@dataclass(frozen=True, slots=True)
class Street:
    """All that decides in a scene; everything else in the images is decoration.

    Attributes:
        road: city streets have lights and side streets, highways have lanes to change to.
        light: traffic light ahead.
        ahead: what stands or drives in the own lane.
        signal: where the car that is followed is about to go, shown by its orange lamp; it decides nothing for us.
        pedestrian: somebody is on the road ahead.
        ambulance: an ambulance with its lights on follows closely.
        left, right: the two sides.
    """

    road: Road
    light: Light = "none"
    ahead: Ahead = "nothing"
    signal: Signal = "none"
    pedestrian: bool = False
    ambulance: bool = False
    left: Side = Side()
    right: Side = Side()


def expert_plan(street: Street, speed: float, command: Command) -> Plan:
    """The rule the driver has to learn; mirror-symmetric.

    Args:
        speed: m/s.
        command: the navigation command; a highway knows only `go straight`.
    """
    if street.road == "highway":
        return _highway_plan(street, speed)
    return _city_plan(street, speed, command)


def _longitudinal(street: Street, speed: float) -> Speed:
    blocked = (
        street.light == "red"
        or street.pedestrian
        or street.ahead in ("braking", "barrier")
        or (street.ambulance and street.road == "city")
    )
    if blocked:
        return _yield(speed)
    if street.ahead in ("following", "truck") and speed >= STANDING_BELOW:
        return Speed.KEEP
    return Speed.ACCELERATE


def _yield(speed: float) -> Speed:
    return Speed.STOP if speed < STANDING_BELOW else Speed.DECELERATE


def _city_plan(street: Street, speed: float, command: Command) -> Plan:
    pace = _longitudinal(street, speed)
    if command == Command.STRAIGHT or pace in (Speed.STOP, Speed.DECELERATE):
        return pace, Path.STRAIGHT
    to_left = command in (Command.LEFT, Command.STRAIGHT_LEFT)
    side = street.left if to_left else street.right
    if not side.street:
        return pace, Path.STRAIGHT
    if side.vehicle != "none":
        return _yield(speed), Path.STRAIGHT
    turn = Path.LEFT_TURN if to_left else Path.RIGHT_TURN
    if side.pedestrian:
        pace = _yield(speed)
    return (pace, Path.STRAIGHT) if pace == Speed.STOP else (pace, turn)


def _highway_plan(street: Street, speed: float) -> Plan:
    pace = _longitudinal(street, speed)
    if not (street.ambulance or street.ahead in ("truck", "barrier")):
        return pace, Path.STRAIGHT
    # Sampled streets never leave both lanes free here, so no preference needs to be learnt (see `sampling`).
    if street.left.vehicle == "none":
        return pace, Path.LEFT_CHANGE
    if street.right.vehicle == "none":
        return pace, Path.RIGHT_CHANGE
    return Speed.DECELERATE, Path.STRAIGHT


def mirror_street(street: Street) -> Street:
    """The street seen in a mirror."""
    signals: dict[Signal, Signal] = {"none": "none", "left": "right", "right": "left"}
    return replace(street, left=street.right, right=street.left, signal=signals[street.signal])
