from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from senna_prune.nuscenes.behaviour import VIEWS, path_labels, speed_labels, view_numbers
from senna_prune.task.labels import Path as PathLabel
from senna_prune.task.labels import Speed
from tests.conftest import golden_cases

SPEED_NAMES = {
    "const": Speed.KEEP,
    "accelerate": Speed.ACCELERATE,
    "decelerate": Speed.DECELERATE,
    "stop": Speed.STOP,
}
PATH_NAMES = {
    "straight": PathLabel.STRAIGHT,
    "right turn": PathLabel.RIGHT_TURN,
    "left turn": PathLabel.LEFT_TURN,
    "right lane change": PathLabel.RIGHT_CHANGE,
    "left lane change": PathLabel.LEFT_CHANGE,
}


def trajectory(velocities: list[float], end_x: float = 0.0) -> np.ndarray:
    """Points of a car driving ahead at the given velocities, m/s, one for each step after the first point."""
    ahead = np.concatenate([[1.0], 1.0 + np.cumsum(velocities) * 0.5])
    points = np.stack([np.zeros(6), ahead], axis=1)
    points[-1, 0] = end_x
    return points[None].astype(np.float32)


def end_at(x: float, y: float) -> np.ndarray:
    return np.linspace(0, 1, 6)[None, :, None].astype(np.float32) * np.array([x, y], dtype=np.float32)


@pytest.mark.golden
@pytest.mark.parametrize("path", golden_cases("senna/label_helpers*.json"), ids=lambda path: path.name)
def test_recorded_labels(path: Path) -> None:
    recorded = json.loads(path.read_text())
    points = np.array([case["traj"] for case in recorded["trajectories"]], dtype=np.float32)
    assert speed_labels(points) == [SPEED_NAMES[case["speed"]] for case in recorded["trajectories"]]
    assert path_labels(points) == [PATH_NAMES[case["path"]] for case in recorded["trajectories"]]
    places = np.array([case["xy"] for case in recorded["rel_position"]])
    assert [VIEWS[n] for n in view_numbers(places)] == [case["result"] for case in recorded["rel_position"]]


@pytest.mark.parametrize(
    ("velocities", "expected"),
    [
        ([1.9] * 5, Speed.STOP),
        ([2.0] * 5, Speed.KEEP),
        ([0.0, 0.0, 0.0, 0.0, 1.9], Speed.STOP),
        ([4.0, 4.0, 5.0, 6.0, 7.0], Speed.ACCELERATE),
        ([4.0, 4.0, 5.0, 6.0, 6.9], Speed.KEEP),
        ([7.0, 6.0, 5.0, 4.0, 4.0], Speed.DECELERATE),
        ([6.9, 6.0, 5.0, 4.0, 4.0], Speed.KEEP),
        ([5.0, 9.0, 9.0, 9.0, 5.0], Speed.KEEP),  # only the first and the last step count
    ],
)
def test_speed(velocities: list[float], expected: Speed) -> None:
    assert speed_labels(trajectory(velocities)) == [expected]


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (0.0, 30.0, PathLabel.STRAIGHT),
        (4.0, 10.0, PathLabel.STRAIGHT),  # to the right more than 4 m is asked for, to the left 4 m are enough
        (4.1, 10.0, PathLabel.RIGHT_TURN),
        (-4.0, 10.0, PathLabel.LEFT_TURN),
        (-3.9, 10.0, PathLabel.STRAIGHT),
        (4.1, 60.0, PathLabel.RIGHT_CHANGE),  # 3.9 degrees
        (-4.1, 60.0, PathLabel.LEFT_CHANGE),
        (5.0, -10.0, PathLabel.RIGHT_TURN),
        (-5.0, -10.0, PathLabel.STRAIGHT),  # the reference's angle leaps at 180 degrees
    ],
)
def test_path(x: float, y: float, expected: PathLabel) -> None:
    assert path_labels(end_at(x, y)) == [expected]


@pytest.mark.parametrize(
    ("x", "y", "view"),
    [
        (0.0, 5.0, "front"),
        (5.0, 5.0, "front right"),
        (-5.0, 3.0, "front left"),
        (5.0, -1.0, "back right"),
        (-5.0, -1.0, "back left"),
        (0.0, -5.0, "back"),
        (5.0, 0.0, "front right"),
        (-5.0, 0.0, "back left"),
    ],
)
def test_view(x: float, y: float, view: str) -> None:
    assert VIEWS[view_numbers(np.array([[x, y]]))[0]] == view


def test_nothing_to_label() -> None:
    nothing = np.zeros((0, 6, 2), dtype=np.float32)
    assert speed_labels(nothing) == path_labels(nothing) == []
    assert not len(view_numbers(np.zeros((0, 2))))
