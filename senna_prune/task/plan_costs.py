"""What a wrong plan costs: driving on where stopping is right is not holding back where driving on is."""

from __future__ import annotations

from collections.abc import Mapping

from senna_prune.task.answers import Answer
from senna_prune.task.labels import Path

COSTS: dict[str, float] = {
    **{"STOP>ACCELERATE": 10, "STOP>KEEP": 8, "STOP>DECELERATE": 3},
    **{"DECELERATE>ACCELERATE": 6, "DECELERATE>KEEP": 4, "DECELERATE>STOP": 1},
    **{"KEEP>ACCELERATE": 3, "KEEP>DECELERATE": 1, "KEEP>STOP": 2},
    **{"ACCELERATE>KEEP": 1, "ACCELERATE>DECELERATE": 2, "ACCELERATE>STOP": 3},
    **{"path": 3, "opposite path": 6, "unread": 10},
}
"""Costs of (true speed > planned speed); of another path than the true one, and of one to the other side; of an answer
of which a half cannot be read. A right half costs nothing, the halves add up. The numbers are a convention of this
project, not measured: `scoring.costs` changes them."""


def plan_cost(truth: Answer, given: Answer, costs: Mapping[str, float] = COSTS) -> float:
    """Cost of a plan in place of a true one, both halves of which are known."""
    if given.speed is None or given.path is None:
        return costs["unread"]
    assert truth.speed is not None
    assert truth.path is not None
    speed = 0.0 if truth.speed == given.speed else costs[f"{truth.speed.value}>{given.speed.value}"]
    if truth.path == given.path:
        return speed
    return speed + costs["opposite path" if _side(truth.path) * _side(given.path) < 0 else "path"]


def _side(path: Path) -> int:
    return path.value.startswith("RIGHT") - path.value.startswith("LEFT")
