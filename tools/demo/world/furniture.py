"""The things on a demo street: each is drawn into a mesh and described as nuScenes would box it.

`shows` are the attributes that a token learns to tell where it sees the thing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tools.demo.world.mesh import Colour, Mesh
from tools.demo.world.motion import STANDING, Motion
from tools.demo.world.street import Signal

BRAKE_LAMP: Colour = (255, 30, 20)
TAIL_LAMP: Colour = (92, 12, 12)
SIGNAL_LAMP: Colour = (255, 165, 0)
_PAINTS: tuple[Colour, ...] = (
    (225, 225, 228),
    (40, 42, 48),
    (60, 90, 150),
    (150, 155, 160),
    (70, 110, 80),
    (190, 170, 120),
)
_CLOTHES: tuple[Colour, ...] = ((215, 60, 160), (235, 200, 40), (40, 190, 200), (240, 120, 40))
_WALLS: tuple[Colour, ...] = ((176, 120, 98), (196, 180, 150), (140, 130, 140), (170, 160, 165), (150, 110, 80))
_GLASS: Colour = (45, 60, 75)
_TYRE: Colour = (22, 22, 22)
_TARPAULINS: tuple[Colour, ...] = ((190, 195, 200), (165, 140, 110), (110, 130, 160))


@dataclass(frozen=True)
class Thing:
    """A box in the ego frame of the rendered keyframe.

    Attributes:
        category: nuScenes category name.
        centre: x, y, z of its middle, metres.
        size: width, length, height, metres: nuScenes' order.
        motion: how it moves during the next 3 s.
    """

    category: str
    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    motion: Motion = STANDING


def from_left(things: Iterable[Thing]) -> tuple[Thing, ...]:
    """In the order in which they are annotated, from left to right: so a mirrored scene has one right answer too."""
    return tuple(sorted(things, key=lambda thing: -thing.centre[1]))


def _thing(
    category: str, position: tuple[float, float], size: tuple[float, float, float], motion: Motion = STANDING
) -> Thing:
    length, width, height = size
    return Thing(category, (*position, height / 2), (width, length, height), motion)


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    red, green, blue = colours[int(rng.integers(len(colours)))]
    return red, green, blue


def add_car(
    mesh: Mesh,
    position: tuple[float, float],
    rng: np.random.Generator,
    name: str,
    motion: Motion,
    *shows: str,
    braking: bool = False,
    signal: Signal = "none",
) -> Thing:
    """A car that points our way; `braking` lights three large lamps, `signal` an orange one on its side."""
    group = mesh.new_group(name, *shows)
    size = (float(rng.uniform(4.0, 4.6)), 1.9, float(rng.uniform(1.5, 1.75)))
    (x, y), paint = position, _pick(rng, _PAINTS)
    mesh.box(position, (size[0], size[1], 0.95), paint, group, bottom=0.25)
    mesh.box((x - 0.1, y), (size[0] * 0.55, 1.6, size[2] - 1.2), _GLASS, group, bottom=1.2)
    rear, nose = x - size[0] / 2 - 0.02, x + size[0] / 2 + 0.02
    for sign in (1, -1):
        for wheel in ((rear + 0.4, rear + 1.1), (nose - 1.1, nose - 0.4)):
            mesh.side_plate(wheel, y + sign * 0.96, (0.05, 0.6), _TYRE, group, facing_left=sign > 0)
        inner, outer = sorted((y + sign * 0.45, y + sign * 0.95))
        lamp = (inner, outer) if braking else sorted((y + sign * 0.68, y + sign * 0.95))
        mesh.plate(rear, (lamp[0], lamp[1]), (0.7, 1.15), BRAKE_LAMP if braking else TAIL_LAMP, group, facing_back=True)
        mesh.plate(nose, (inner, outer), (0.6, 0.85), (240, 238, 215), group, facing_back=False)
    if braking:
        window = x - 0.13 - size[0] * 0.275
        mesh.plate(window, (y - 0.5, y + 0.5), (1.22, 1.42), BRAKE_LAMP, group, facing_back=True)
    if signal != "none":
        outer = y + (0.95 if signal == "left" else -0.95)
        inner = y + (0.4 if signal == "left" else -0.4)
        lamp = (min(inner, outer), max(inner, outer))
        mesh.plate(rear - 0.01, lamp, (0.62, 1.2), SIGNAL_LAMP, group, facing_back=True)
    return _thing("vehicle.car", position, size, motion)


def add_truck(mesh: Mesh, position: tuple[float, float], rng: np.random.Generator, name: str, motion: Motion) -> Thing:
    """A slow lorry, seen from behind."""
    group = mesh.new_group(name, "truck")
    size = (8.0, 2.6, float(rng.uniform(3.2, 3.7)))
    (x, y), rear = position, position[0] - 4.02
    mesh.box(position, (8.0, 2.6, size[2] - 0.6), _pick(rng, _TARPAULINS), group, 0.6)
    mesh.plate(rear, (y - 1.3, y + 1.3), (0.35, 0.75), (60, 60, 62), group, facing_back=True)
    mesh.plate(rear - 0.01, (y - 0.05, y + 0.05), (0.8, size[2]), (70, 70, 75), group, facing_back=True)
    return _thing("vehicle.truck", (x, y), size, motion)


def add_barrier(mesh: Mesh, position: tuple[float, float], name: str) -> Thing:
    """A striped road block across the lane."""
    group = mesh.new_group(name, "barrier")
    size = (0.6, 3.4, 1.3)
    (x, y) = position
    mesh.box(position, size, (240, 240, 235), group)
    for start in np.arange(-1.7, 1.7, 1.0):
        span = (y + float(start), y + min(float(start) + 0.55, 1.7))
        mesh.plate(x - 0.32, span, (0.1, 1.3), (250, 120, 0), group, facing_back=True)
    return _thing("movable_object.barrier", position, size)


def add_motorcycle(
    mesh: Mesh, position: tuple[float, float], rng: np.random.Generator, name: str, motion: Motion, *shows: str
) -> Thing:
    """A motorcycle that points our way, with its rider."""
    group = mesh.new_group(name, *shows)
    size = (1.9, 0.6, float(rng.uniform(1.4, 1.55)))
    (x, y) = position
    mesh.box(position, (1.1, 0.3, 0.3), _pick(rng, _CLOTHES), group, bottom=0.4)
    for sign in (1, -1):
        for wheel in ((x - 0.95, x - 0.5), (x + 0.5, x + 0.95)):
            mesh.side_plate(wheel, y + sign * 0.15, (0.0, 0.45), _TYRE, group, facing_left=sign > 0)
    mesh.box((x - 0.1, y), (0.3, 0.5, size[2] - 0.95), (35, 35, 40), group, bottom=0.7)
    mesh.box((x - 0.1, y), (0.25, 0.25, 0.25), (235, 235, 235), group, bottom=size[2] - 0.25)
    return _thing("vehicle.motorcycle", position, size, motion)


def add_pedestrian(
    mesh: Mesh, position: tuple[float, float], rng: np.random.Generator, name: str, *shows: str
) -> Thing:
    """Somebody in bright clothes."""
    group = mesh.new_group(name, *shows)
    (x, y), height = position, float(rng.uniform(1.65, 1.9))
    mesh.box((x, y), (0.4, 0.45, 0.8), (38, 40, 60), group)
    mesh.box((x, y), (0.45, 0.62, height - 1.05), _pick(rng, _CLOTHES), group, bottom=0.8)
    mesh.box((x, y), (0.26, 0.26, 0.25), (226, 180, 150), group, bottom=height - 0.25)
    return _thing("human.pedestrian.adult", position, (0.5, 0.62, height))


def add_traffic_light(mesh: Mesh, position: tuple[float, float], *, red: bool) -> None:
    """A signal head hanging over the road from a mast at the kerb. nuScenes boxes no traffic lights."""
    x, y = position
    side = 1.0 if y >= 0 else -1.0
    mast = mesh.new_group()
    mesh.box((x, side * 6.6), (0.25, 0.25, 5.4), (70, 72, 75), mast)
    mesh.box((x, (y + side * 6.6) / 2), (0.2, abs(side * 6.6 - y), 0.2), (70, 72, 75), mast, bottom=5.2)
    group = mesh.new_group("light", "red" if red else "green")
    mesh.box((x, y), (0.4, 1.1, 2.2), (24, 24, 26), group, bottom=3.4)
    lamps = ((4.55, (255, 40, 30) if red else (60, 18, 16)), (3.5, (16, 56, 24) if red else (40, 255, 90)))
    for bottom, colour in lamps:
        mesh.plate(x - 0.22, (y - 0.47, y + 0.47), (bottom, bottom + 0.95), colour, group, facing_back=True)


def add_sign(mesh: Mesh, position: tuple[float, float], *, red: bool) -> None:
    """A red or green panel beside the road, as high as a traffic light: it decides nothing."""
    group, (x, y) = mesh.new_group(), position
    mesh.box(position, (0.2, 0.2, 3.4), (70, 72, 75), group)
    colour = (255, 40, 30) if red else (40, 255, 90)
    mesh.plate(x - 0.1, (y - 0.8, y + 0.8), (3.4, 4.8), colour, group, facing_back=True)


def add_ambulance(mesh: Mesh, position: tuple[float, float], name: str, motion: Motion, *, lights: bool) -> Thing:
    """A white van behind us; with `lights` it is an ambulance: blue beacons and a red stripe on its nose."""
    group = mesh.new_group(name, "ambulance" if lights else "van")
    size = (5.6, 2.2, 2.5)
    y, nose = position[1], position[0] + 2.82
    mesh.box(position, (5.6, 2.2, 2.2), (238, 238, 238), group, bottom=0.3)
    mesh.plate(nose, (y - 0.95, y + 0.95), (1.45, 2.1), _GLASS, group, facing_back=False)
    for sign in (1, -1):
        inner, outer = sorted((y + sign * 0.6, y + sign * 1.05))
        mesh.plate(nose, (inner, outer), (0.6, 0.9), (245, 240, 210), group, facing_back=False)
    if lights:
        mesh.plate(nose, (y - 1.1, y + 1.1), (1.0, 1.35), (225, 30, 30), group, facing_back=False)
        mesh.box((nose - 0.6, y), (0.5, 2.0, 0.55), (20, 60, 255), group, bottom=2.5)
    return _thing("vehicle.emergency.ambulance" if lights else "vehicle.truck", position, size, motion)


def add_house(mesh: Mesh, centre: tuple[float, float], size: tuple[float, float], rng: np.random.Generator) -> None:
    """A house with two rows of windows towards the road."""
    group = mesh.new_group()
    (x, y), (length, depth) = centre, size
    height = float(rng.uniform(6.0, 13.0))
    mesh.box(centre, (length, depth, height), _pick(rng, _WALLS), group)
    to_road = -1.0 if y > 0 else 1.0
    for bottom in (1.2, 4.2):
        for start in np.arange(x - length / 2 + 0.8, x + length / 2 - 1.5, 2.6):
            mesh.side_plate(
                (float(start), float(start) + 1.3),
                y + to_road * (depth / 2 + 0.02),
                (bottom, bottom + 1.5),
                (70, 84, 100),
                group,
                facing_left=to_road > 0,
            )


def add_tree(mesh: Mesh, position: tuple[float, float], rng: np.random.Generator) -> None:
    group = mesh.new_group()
    crown = float(rng.uniform(1.8, 2.8))
    mesh.box(position, (0.35, 0.35, 2.4), (96, 70, 48), group)
    mesh.box(position, (crown, crown, crown * 1.1), (44, int(rng.integers(90, 125)), 50), group, bottom=2.2)
