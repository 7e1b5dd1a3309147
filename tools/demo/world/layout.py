"""Furnishes a street: what decides goes where its camera sees it, the rest is decoration drawn around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tools.demo.world.furniture import (
    Thing,
    add_ambulance,
    add_barrier,
    add_car,
    add_house,
    add_pedestrian,
    add_traffic_light,
    add_tree,
    add_truck,
)
from tools.demo.world.mesh import Mesh
from tools.demo.world.motion import change_lanes, drive_on, turn_off
from tools.demo.world.rendering import Light
from tools.demo.world.street import Side, Street

LANE = 4.2
"""Lane width, metres; a change of lanes must exceed the 4 m of the path labels."""
KERB = 1.5 * LANE
_SIDE_STREET_HALF_WIDTH = 4.0
_REACH = 90.0


@dataclass(frozen=True)
class Layout:
    """A furnished street.

    Attributes:
        mesh: what the cameras see; the groups that decide carry names.
        things: what a nuScenes annotator would box.
        evidence: name of each deciding group and the camera channel that must show it.
    """

    mesh: Mesh
    light: Light
    things: tuple[Thing, ...]
    evidence: dict[str, str]


def lay_out(street: Street, rng: np.random.Generator) -> Layout:
    """Place everything; positions, colours and light are drawn, the street's facts are kept."""
    mesh = Mesh()
    things: list[Thing] = []
    evidence: dict[str, str] = {}
    light = _sample_light(rng)
    junctions = {sign: float(rng.uniform(11.0, 14.0)) for sign in (1, -1)}
    _lay_ground(mesh, street, junctions, rng)
    _furnish_own_lane(mesh, street, things, evidence, rng)
    for sign, side in ((1, street.left), (-1, street.right)):
        _furnish_side(mesh, street, side, sign, junctions[sign], things, evidence, rng)
    _furnish_back(mesh, street, things, evidence, rng)
    return Layout(mesh, light, tuple(things), evidence)


def _sample_light(rng: np.random.Generator) -> Light:
    day = float(rng.uniform(0.62, 1.0))
    tint = rng.uniform(0.94, 1.0, size=3)
    sky = np.array([[110, 165, 225], [170, 180, 190], [205, 170, 150]])[rng.integers(3)] * day
    return Light(
        sky=(int(sky[0]), int(sky[1]), int(sky[2])),
        gain=(float(day * tint[0]), float(day * tint[1]), float(day * tint[2])),
    )


def _lay_ground(mesh: Mesh, street: Street, junctions: dict[int, float], rng: np.random.Generator) -> None:
    city = street.road == "city"
    asphalt = int(rng.integers(78, 98))
    road = (asphalt, asphalt, asphalt + 4)
    verge = (150, 145, 138) if city else (96, 140, 72)
    mesh.ground((-_REACH, _REACH), (-_REACH, _REACH), verge)
    mesh.ground((-_REACH, _REACH), (-KERB, KERB), road)
    for sign, side in ((1, street.left), (-1, street.right)):
        if side.street:
            middle = junctions[sign]
            across = sorted((sign * KERB, sign * _REACH))
            span = (middle - _SIDE_STREET_HALF_WIDTH, middle + _SIDE_STREET_HALF_WIDTH)
            mesh.ground(span, (across[0], across[1]), road)
            for stripe in np.arange(span[0] + 0.3, span[1] - 0.6, 1.3):
                crossing = sorted((sign * (KERB + 0.6), sign * (KERB + 3.0)))
                mesh.ground((stripe, stripe + 0.65), (crossing[0], crossing[1]), (215, 215, 210))
        else:
            # A kerb line that runs on is the plainest sign that nothing opens here.
            edge = sorted((sign * KERB, sign * (KERB - 0.25)))
            mesh.ground((-_REACH, _REACH), (edge[0], edge[1]), (205, 200, 190) if city else (225, 225, 220))
    for line in (LANE / 2, -LANE / 2):
        for start in np.arange(-30.0, 60.0, 6.0):
            mesh.ground((start, start + 3.0), (line - 0.09, line + 0.09), (220, 220, 215))


def _furnish_own_lane(
    mesh: Mesh, street: Street, things: list[Thing], evidence: dict[str, str], rng: np.random.Generator
) -> None:
    if street.light != "none":
        evidence["light"] = "CAM_FRONT"
        position = (float(rng.uniform(15.0, 19.0)), float(rng.uniform(-1.6, 1.6)))
        add_traffic_light(mesh, position, red=street.light == "red")
    if street.pedestrian:
        evidence["pedestrian"] = "CAM_FRONT"
        position = (float(rng.uniform(7.5, 10.0)), float(rng.uniform(-1.5, 1.5)))
        things.append(add_pedestrian(mesh, position, rng, "pedestrian"))
    if street.ahead == "nothing":
        return
    evidence["ahead"] = "CAM_FRONT"
    offset = float(rng.uniform(-0.3, 0.3))
    gap = float(rng.uniform(11.0, 15.0))
    if street.ahead == "truck":
        things.append(add_truck(mesh, (gap + 4.0, offset), rng, "ahead", drive_on(rng, "truck")))
    elif street.ahead == "barrier":
        things.append(add_barrier(mesh, (gap, offset), "ahead"))
    else:
        things.append(_add_leader(mesh, street, (gap, offset), rng))


def _add_leader(mesh: Mesh, street: Street, position: tuple[float, float], rng: np.random.Generator) -> Thing:
    """The car ahead: brakes, drives on, or leaves the lane where its orange lamp says."""
    braking, sign = street.ahead == "braking", {"none": 0, "left": 1, "right": -1}[street.signal]
    if sign:
        motion = turn_off(rng, sign) if street.road == "city" else change_lanes(rng, sign, LANE)
    else:
        motion = drive_on(rng, street.road, "braking" if braking else "steady")
    return add_car(mesh, position, rng, "ahead", motion, braking=braking, signal=street.signal)


def _furnish_side(
    mesh: Mesh,
    street: Street,
    side: Side,
    sign: int,
    junction: float,
    things: list[Thing],
    evidence: dict[str, str],
    rng: np.random.Generator,
) -> None:
    name = "left" if sign > 0 else "right"
    if side.vehicle != "none":
        evidence[f"{name}.vehicle"] = f"CAM_{'BACK' if side.vehicle == 'behind' else 'FRONT'}_{name.upper()}"
        along = rng.uniform(-3.6, -1.6) if side.vehicle == "behind" else rng.uniform(4.6, 6.6)
        position = (float(along), sign * LANE)
        things.append(add_car(mesh, position, rng, f"{name}.vehicle", drive_on(rng, street.road)))
    if side.pedestrian:
        evidence[f"{name}.pedestrian"] = f"CAM_FRONT_{name.upper()}"
        position = (junction + float(rng.uniform(-2.5, 2.5)), sign * float(rng.uniform(KERB + 0.8, KERB + 2.8)))
        things.append(add_pedestrian(mesh, position, rng, f"{name}.pedestrian"))
    if street.road == "highway":
        for along in np.arange(-45.0, 60.0, 15.0):
            if rng.random() < 0.6:
                add_tree(mesh, (float(along + rng.uniform(0, 8)), sign * float(rng.uniform(13, 25))), rng)
        return
    gap = (junction - _SIDE_STREET_HALF_WIDTH - 1.0, junction + _SIDE_STREET_HALF_WIDTH + 1.0) if side.street else None
    start = -42.0
    while start < 60.0:
        length = float(rng.uniform(7.0, 12.0))
        if gap is not None and start < gap[1] and start + length > gap[0]:
            length = gap[0] - start
        if length > 2.0:
            depth = float(rng.uniform(6.0, 9.0))
            setback = KERB + float(rng.uniform(4.2, 5.5))
            add_house(mesh, (start + length / 2, sign * (setback + depth / 2)), (length - 0.4, depth), rng)
        start += length
        if gap is not None and abs(start - gap[0]) < 1e-6:
            start = gap[1]
    for along in (-24.0, -9.0, 24.0, 34.0):
        if rng.random() < 0.4:
            add_tree(mesh, (along + float(rng.uniform(-2, 2)), sign * (KERB + 2.0)), rng)


def _furnish_back(
    mesh: Mesh, street: Street, things: list[Thing], evidence: dict[str, str], rng: np.random.Generator
) -> None:
    distance = -float(rng.uniform(9.0, 12.0))
    offset = float(rng.uniform(-0.4, 0.4))
    if street.ambulance:
        evidence["ambulance"] = "CAM_BACK"
        motion = drive_on(rng, street.road, "hurrying")
        things.append(add_ambulance(mesh, (distance, offset), "ambulance", motion, lights=True))
        return
    choice = rng.random()
    if choice < 0.3:
        things.append(add_car(mesh, (distance, offset), rng, "follower", drive_on(rng, street.road)))
    elif choice < 0.4:
        # A white van of the same shape: the blue lights decide, not the outline.
        things.append(add_ambulance(mesh, (distance, offset), "follower", drive_on(rng, street.road), lights=False))
