"""Furnishes a street: what decides goes where its camera sees it; look-alikes that decide nothing stand beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tools.demo.world.furniture import (
    Thing,
    add_ambulance,
    add_barrier,
    add_car,
    add_house,
    add_motorcycle,
    add_pedestrian,
    add_sign,
    add_traffic_light,
    add_tree,
    add_truck,
    from_left,
)
from tools.demo.world.mesh import Mesh
from tools.demo.world.motion import STANDING, change_lanes, drive_on, turn_off
from tools.demo.world.rendering import Light
from tools.demo.world.rig import LIDAR_TRANSLATION
from tools.demo.world.street import Side, Street

LANE = 4.2
"""Lane width, metres; a change of lanes must exceed the 4 m of the path labels."""
KERB = 1.5 * LANE
PERSON_METRES = (8, 10, 13, 17)
"""Whole metres ahead at which people on the road stand: apart enough to be told from where their feet are."""
_SIDE_STREET_HALF_WIDTH = 2.2
_REACH = 90.0
_AHEAD_OF_SIDE = 0.73
"""An object more than so many times as far ahead as aside belongs to the converter's front view."""


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
    """Place everything; positions, colours, light and look-alikes are drawn, the street's facts are kept."""
    return _Builder(street, rng).layout()


class _Builder:
    """One street being furnished; `_` methods add to its mesh, things and evidence."""

    def __init__(self, street: Street, rng: np.random.Generator) -> None:
        self.street, self.rng = street, rng
        self.mesh, self.things, self.evidence = Mesh(), list[Thing](), dict[str, str]()

    def layout(self) -> Layout:
        light = self._light()
        junctions = {sign: self._draw(10.5, 12.5) for sign in (1, -1)}
        self._ground(junctions)
        self._own_lane()
        for sign, side in ((1, self.street.left), (-1, self.street.right)):
            self._side(side, sign, junctions[sign])
            self._beyond(sign)
        self._back()
        return Layout(self.mesh, light, from_left(self.things), self.evidence)

    def _draw(self, least: float, most: float) -> float:
        return float(self.rng.uniform(least, most))

    def _happens(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def _light(self) -> Light:
        day = self._draw(0.62, 1.0)
        tint = self.rng.uniform(0.94, 1.0, size=3)
        sky = np.array([[110, 165, 225], [170, 180, 190], [205, 170, 150]])[self.rng.integers(3)] * day
        return Light(
            sky=(int(sky[0]), int(sky[1]), int(sky[2])),
            gain=(float(day * tint[0]), float(day * tint[1]), float(day * tint[2])),
        )

    def _ground(self, junctions: dict[int, float]) -> None:
        mesh, city = self.mesh, self.street.road == "city"
        asphalt = int(self.rng.integers(78, 98))
        road = (asphalt, asphalt, asphalt + 4)
        verge = (150, 145, 138) if city else (96, 140, 72)
        mesh.ground((-_REACH, _REACH), (-_REACH, _REACH), verge)
        mesh.ground((-_REACH, _REACH), (-KERB, KERB), road)
        for line in (LANE / 2, -LANE / 2):
            for start in np.arange(-30.0, 60.0, 6.0):
                mesh.ground((start, start + 3.0), (line - 0.09, line + 0.09), (220, 220, 215))
        for sign, side in ((1, self.street.left), (-1, self.street.right)):
            if not side.street:
                # A kerb line that runs on is the plainest sign that nothing opens here.
                edge = sorted((sign * KERB, sign * (KERB - 0.25)))
                mesh.ground((-_REACH, _REACH), (edge[0], edge[1]), (205, 200, 190) if city else (225, 225, 220))
                continue
            name = _side_name(sign)
            self.evidence[f"{name}.street"] = f"CAM_FRONT_{name.upper()}"
            group = mesh.new_group(f"{name}.street", "side street", flat=True)
            across = sorted((sign * KERB, sign * _REACH))
            span = (junctions[sign] - _SIDE_STREET_HALF_WIDTH, junctions[sign] + _SIDE_STREET_HALF_WIDTH)
            mesh.ground(span, (across[0], across[1]), road, group)
            for stripe in np.arange(span[0] + 0.3, span[1] - 0.6, 1.3):
                crossing = sorted((sign * (KERB + 0.6), sign * (KERB + 3.0)))
                mesh.ground((stripe, stripe + 0.65), (crossing[0], crossing[1]), (215, 215, 210), group)

    def _own_lane(self) -> None:
        street = self.street
        if street.light != "none":
            self.evidence["light"] = "CAM_FRONT"
            add_traffic_light(self.mesh, (self._draw(17, 25), self._draw(-1.6, 1.6)), red=street.light == "red")
        rear = np.inf
        if street.ahead != "nothing":
            self.evidence["ahead"] = "CAM_FRONT"
            place = (self._draw(15.5, 24.0), self._draw(-0.3, 0.3))
            rear = place[0] - 2.3
            if street.ahead == "truck":
                self.things.append(
                    add_truck(self.mesh, (place[0] + 4.0, place[1]), self.rng, "ahead", drive_on(self.rng, "truck"))
                )
            elif street.ahead == "barrier":
                self.things.append(add_barrier(self.mesh, place, "ahead"))
            else:
                self.things.append(self._leader(place))
        if street.pedestrian:
            self.evidence["pedestrian"] = "CAM_FRONT"
            metres = [one for one in PERSON_METRES if LIDAR_TRANSLATION[0] + one + 1.2 < rear]
            self._person(metres[int(self.rng.integers(len(metres)))], self._draw(-1.5, 1.5), "pedestrian", "on road")

    def _leader(self, place: tuple[float, float]) -> Thing:
        """The car ahead: brakes, drives on, or leaves the lane where its orange lamp says."""
        street, rng = self.street, self.rng
        braking, sign = street.ahead == "braking", {"none": 0, "left": 1, "right": -1}[street.signal]
        if sign:
            motion = turn_off(rng, sign) if street.road == "city" else change_lanes(rng, sign, LANE)
        else:
            motion = drive_on(rng, street.road, "braking" if braking else "steady")
        shows = [street.ahead, *([f"signal {street.signal}"] if sign else [])]
        return add_car(self.mesh, place, rng, "ahead", motion, *shows, braking=braking, signal=street.signal)

    def _person(self, metres: int, aside: float, name: str, *shows: str) -> None:
        """Somebody so many whole metres ahead of the lidar, as the converter's answer will say."""
        place = (LIDAR_TRANSLATION[0] + metres + self._draw(0.3, 0.7), aside)
        distance = [f"{metres} m"] if metres in PERSON_METRES else []
        self.things.append(add_pedestrian(self.mesh, place, self.rng, name, *shows, *distance))

    def _side(self, side: Side, sign: int, junction: float) -> None:
        mesh, rng, street, name = self.mesh, self.rng, self.street, _side_name(sign)
        if side.vehicle != "none":
            self.evidence[f"{name}.vehicle"] = f"CAM_{'BACK' if side.vehicle == 'behind' else 'FRONT'}_{name.upper()}"
            along = self._draw(-2.9, -1.9) if side.vehicle == "behind" else self._draw(5.2, 6.6)
            motion = drive_on(rng, street.road)
            self.things.append(add_motorcycle(mesh, (along, sign * LANE), rng, f"{name}.vehicle", motion, "beside"))
        if side.pedestrian:
            self.evidence[f"{name}.pedestrian"] = f"CAM_FRONT_{name.upper()}"
            aside = self._draw(KERB + 0.9, KERB + 2.7)
            along = min(junction + self._draw(-2.2, 1.2), LIDAR_TRANSLATION[0] + aside / _AHEAD_OF_SIDE)
            place = (along, sign * aside)
            self.things.append(add_pedestrian(mesh, place, rng, f"{name}.pedestrian", "crossing"))
        elif street.road == "city" and not side.street and self._happens(0.25):
            place = (self._draw(3.5, 8.0), sign * self._draw(KERB + 0.9, KERB + 2.7))
            self.things.append(add_pedestrian(mesh, place, rng, "", f"bystander {name}"))
        elif not side.street and self._happens(0.25):
            self._park((self._draw(3.5, 7.5), sign * self._draw(7.5, 8.2)))
        if self._happens(0.25):
            self._park((self._draw(-3.2, -1.8), sign * self._draw(7.5, 8.2)))
        if street.road == "highway":
            for along in np.arange(-45.0, 60.0, 15.0):
                if self._happens(0.6):
                    add_tree(mesh, (along + self._draw(0, 8), sign * self._draw(13, 25)), rng)
        else:
            self._houses(side, sign, junction)

    def _park(self, place: tuple[float, float]) -> None:
        add = add_car if self._happens(0.5) else add_motorcycle
        self.things.append(add(self.mesh, place, self.rng, "", STANDING, "parked"))

    def _beyond(self, sign: int) -> None:
        """Look-alikes that the front camera sees: a car in the next lane, somebody beside the road, a coloured sign."""
        name = _side_name(sign)
        if self._happens(0.3):
            braking = self._happens(0.4)
            motion = drive_on(self.rng, self.street.road, "braking" if braking else "steady")
            place, shows = (self._draw(16.0, 28.0), sign * LANE), f"other {'braking' if braking else 'car'} {name}"
            self.things.append(add_car(self.mesh, place, self.rng, "", motion, shows, braking=braking))
        if self.street.road == "city" and self._happens(0.5):
            metres = 17 if self._happens(0.65) else int(self.rng.integers(21, 27))
            self._person(metres, sign * self._draw(7.2, 7.8), "", f"bystander {name}")
        if self._happens(0.35):
            add_sign(self.mesh, (self._draw(20.0, 30.0), sign * self._draw(9.0, 10.4)), red=self._happens(0.5))

    def _houses(self, side: Side, sign: int, junction: float) -> None:
        gap = (junction - _SIDE_STREET_HALF_WIDTH - 1.0, junction + _SIDE_STREET_HALF_WIDTH + 1.0)
        start = -42.0
        while start < 60.0:
            length = self._draw(7.0, 12.0)
            if side.street and start < gap[1] and start + length > gap[0]:
                length = gap[0] - start
            if length > 2.0:
                depth, setback = self._draw(6.0, 9.0), KERB + self._draw(4.2, 5.5)
                place = (start + length / 2, sign * (setback + depth / 2))
                add_house(self.mesh, place, (length - 0.4, depth), self.rng)
            start += length
            if side.street and abs(start - gap[0]) < 1e-6:
                start = gap[1]
        for along in (-24.0, -9.0, 24.0, 34.0):
            if self._happens(0.4):
                add_tree(self.mesh, (along + self._draw(-2, 2), sign * (KERB + 2.0)), self.rng)

    def _back(self) -> None:
        place = (-self._draw(14.0, 20.0), self._draw(-0.4, 0.4))
        if self.street.ambulance:
            self.evidence["ambulance"] = "CAM_BACK"
            motion = drive_on(self.rng, self.street.road, "hurrying")
            self.things.append(add_ambulance(self.mesh, place, "ambulance", motion, lights=True))
            return
        choice, motion = self.rng.random(), drive_on(self.rng, self.street.road)
        if choice < 0.25:
            self.things.append(add_car(self.mesh, place, self.rng, "", motion, "follower"))
        elif choice < 0.5:
            # A white van of the same shape: the blue lights decide, not the outline.
            self.things.append(add_ambulance(self.mesh, place, "follower", motion, lights=False))


def _side_name(sign: int) -> str:
    return "left" if sign > 0 else "right"
