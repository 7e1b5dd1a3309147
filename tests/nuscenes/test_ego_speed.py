from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from senna_prune.errors import TableError
from senna_prune.nuscenes.ego_speed import can_bus_speed, shown_speeds
from tests.hostile import fifo
from tests.nuscenes.tiny_tables import START, STEP, make_scene

DRIVE = [(0.0, 0.0, 0.0), (1.3, 0.0, 0.0), (4.0, 0.0, 0.0), (9.0, 0.0, 0.0)]
"""Steps of 1.3, 2.7 and 5 m."""


def write_can_bus(folder: Path, messages: object, scene: str = "scene-0001") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{scene}_pose.json").write_text(json.dumps(messages))
    return folder


def test_displacement_around_a_keyframe_sees_half_a_second_ahead() -> None:
    # first: its one step twice; then the steps before and after; last: the step before alone
    assert shown_speeds(make_scene(DRIVE), "auto").tolist() == [2.0, 4.0, 7.0, 5.0]


def test_past_does_not_depend_on_the_future() -> None:
    speeds = shown_speeds(make_scene(DRIVE), "past")
    assert np.isnan(speeds[0])
    assert speeds[1:].tolist() == [2.0, 5.0, 10.0]
    for length in range(2, len(DRIVE)):
        np.testing.assert_array_equal(shown_speeds(make_scene(DRIVE[:length]), "past"), speeds[:length])


def test_heading_does_not_matter() -> None:
    turned = [(y, x, 30.0) for x, y, _ in DRIVE]
    assert shown_speeds(make_scene(turned), "auto").tolist() == [2.0, 4.0, 7.0, 5.0]


def test_can_bus_wins_where_present_and_past_ignores_it() -> None:
    scene = make_scene(DRIVE, can_speed=[3.9, -0.4, -1.2, 12.0])
    for source in ("auto", "can_bus"):
        assert shown_speeds(scene, source).tolist() == [3.0, 0.0, -1.0, 12.0]  # cut off towards zero
    assert shown_speeds(scene, "past")[1] == 2.0


def test_can_bus_alone_has_no_speed_without_messages() -> None:
    assert np.isnan(shown_speeds(make_scene(DRIVE), "can_bus")).all()


def test_the_nearest_message_counts_the_later_of_two(tmp_path: Path) -> None:
    messages = [{"utime": START + offset, "vel": [speed, 0, 0]} for offset, speed in ((-90, 1), (100, 2), (700, 3))]
    folder = write_can_bus(tmp_path / "can_bus", messages)
    stamps = START + np.array([-STEP, 0, 5, 399, 400, STEP], dtype=np.int64)
    speeds = can_bus_speed(folder, "scene-0001", stamps)
    assert speeds is not None
    assert speeds.tolist() == [1, 1, 2, 2, 3, 3]


def test_scenes_without_messages(tmp_path: Path) -> None:
    folder = write_can_bus(tmp_path / "can_bus", [])
    stamps = np.array([START], dtype=np.int64)
    assert can_bus_speed(folder, "scene-0001", stamps) is None
    assert can_bus_speed(folder, "scene-0161", stamps) is None
    assert can_bus_speed(tmp_path / "absent", "scene-0001", stamps) is None


BROKEN: list[tuple[object, str]] = [
    ([{"utime": START - 10**14, "vel": [1.0, 0, 0]}], "100000000.0 s from keyframe 0"),
    *(([{"utime": START, "vel": [speed]}], "at most 100 m/s") for speed in (1e60, float("nan"), [1.0, 2.0])),
    ([{"utime": -(1 << 62), "vel": [1.0, 0, 0]}], "not in time order"),
    ([{"utime": START, "vel": [1.0]}, {"utime": START - 1, "vel": [1.0]}], "not in time order"),
    ({"utime": START}, "not a JSON array"),
    *(([one], "not a list of CAN-bus poses") for one in ("now", {"utime": START}, {"utime": START, "vel": []})),
    *(([{"utime": time, "vel": [1.0]}], "not a list of CAN-bus poses") for time in ("noon", 10**30)),
    ([{"utime": START, "vel": ["fast"]}], "not a list of CAN-bus poses"),
]


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_broken_messages_name_the_file(tmp_path: Path, number: int) -> None:
    messages, message = BROKEN[number]
    folder = write_can_bus(tmp_path / "can_bus", messages)
    with pytest.raises(TableError, match=rf"scene-0001_pose\.json: .*{message}"):
        can_bus_speed(folder, "scene-0001", np.array([START], dtype=np.int64))


def test_a_file_of_messages_without_end(tmp_path: Path) -> None:
    fifo(tmp_path / "scene-0001_pose.json")
    with pytest.raises(TableError, match=r"scene-0001_pose\.json: .*no ordinary file"):
        can_bus_speed(tmp_path, "scene-0001", np.array([START], dtype=np.int64))
