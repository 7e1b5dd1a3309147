"""Hand-computed navigation commands. Keyframe 0 of every drive is at the origin, looking along x."""

from __future__ import annotations

import pytest

from senna_prune.nuscenes.behaviour import command_of
from senna_prune.nuscenes.scene_samples import commands
from senna_prune.task.labels import Command
from tests.nuscenes.tiny_tables import Place, arc, make_scene, straight


def stops_after(places: list[Place], moving: int) -> list[Place]:
    """The drive, standing still from a keyframe on."""
    return places[:moving] + [places[moving]] * (len(places) - moving)


DRIVES: dict[str, tuple[list[Place], Command, Command]] = {
    # drive: its places, then the command under `corrected` and under `upstream`
    "straight 60 m": (straight(13, speed=10.0), Command.STRAIGHT, Command.LEFT),
    "straight 9 m": (straight(13, speed=1.5), Command.STRAIGHT, Command.STRAIGHT),
    "straight, heading along y": (straight(13, speed=10.0, yaw=90.0), Command.STRAIGHT, Command.LEFT),
    "standing": ([(0.0, 0.0, 0.0)] * 13, Command.STRAIGHT, Command.STRAIGHT),
    # 30 m of a 20 m circle: 86 degrees, (19.95, 18.6)
    "left": (arc(13, speed=5.0, radius=20.0), Command.LEFT, Command.LEFT),
    "right": (arc(13, speed=5.0, radius=-20.0), Command.RIGHT, Command.LEFT),
    # 36 m of a 30 m circle: 69 degrees, (28.0, 19.1)
    "wide left": (arc(13, speed=6.0, radius=30.0), Command.STRAIGHT_LEFT, Command.LEFT),
    "wide right": (arc(13, speed=6.0, radius=-30.0), Command.STRAIGHT_RIGHT, Command.STRAIGHT_LEFT),
    # half a circle of 8 m: (0, 16)
    "U-turn to the left": (arc(13, speed=8.0 * 3.14159265 / 6, radius=8.0), Command.LEFT, Command.STRAIGHT),
    "U-turn to the right": (arc(13, speed=8.0 * 3.14159265 / 6, radius=-8.0), Command.RIGHT, Command.STRAIGHT),
    # half a circle of 4.5 m ends 9 m aside, nearer than the thresholds see
    "narrow U-turn": (arc(13, speed=4.5 * 3.14159265 / 6, radius=4.5), Command.STRAIGHT, Command.STRAIGHT),
    "backwards": (straight(13, speed=-5.0), Command.STRAIGHT, Command.RIGHT),
}


@pytest.mark.parametrize("name", DRIVES)
def test_hand_computed_drives(name: str) -> None:
    places, corrected, upstream = DRIVES[name]
    scene = make_scene(places)
    assert commands(scene, "corrected")[0] == corrected
    assert commands(scene, "upstream")[0] == upstream


def test_a_turn_beyond_six_seconds_is_not_told() -> None:
    turns_late = straight(13, speed=5.0) + [(30.0, 5.0 * n, 90.0) for n in range(1, 8)]
    assert commands(make_scene(turns_late), "corrected")[0] == Command.STRAIGHT


@pytest.mark.parametrize("ends_after", [6, 9, 12])
def test_where_the_scene_ends_its_last_keyframe_stands_in(ends_after: int) -> None:
    drive = arc(13, speed=6.0, radius=-20.0)
    cut, parked = make_scene(drive[: ends_after + 1]), make_scene(stops_after(drive, ends_after))
    assert commands(cut, "corrected")[0] == commands(parked, "corrected")[0]
    # after 3 s the car is (15.7, -7.6) away, after 4.5 s (19.5, -15.6)
    assert commands(cut, "corrected")[0] == (Command.STRAIGHT if ends_after == 6 else Command.RIGHT)


def test_the_last_keyframe_goes_straight() -> None:
    assert commands(make_scene(arc(13, speed=6.0, radius=20.0)), "corrected")[-1] == Command.STRAIGHT


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (20.0, 10.0, Command.STRAIGHT_LEFT),
        (20.0, -10.0, Command.STRAIGHT_RIGHT),
        (19.9, 10.0, Command.LEFT),
        (19.9, -10.0, Command.RIGHT),
        (40.0, 9.9, Command.STRAIGHT),
        (-40.0, -9.9, Command.STRAIGHT),
        (-5.0, 10.0, Command.LEFT),
    ],
)
def test_thresholds(x: float, y: float, expected: Command) -> None:
    assert command_of(x, y) == expected


def test_lidar_future_is_right_and_forward() -> None:
    scene = make_scene([(0.0, 0.0, 0.0), (10.0, -3.0, 0.0)])
    assert scene.lidar_future(2)[0].round(9).tolist() == [[0.0, 0.0], [3.0, 10.0], [3.0, 10.0]]
