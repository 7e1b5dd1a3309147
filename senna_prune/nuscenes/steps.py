"""The time between keyframes, which the labels take to be 0.5 s: what the time stamps say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from senna_prune.nuscenes.behaviour import FUTURE_STEPS, STEP_SECONDS

MAX_JITTER = 0.25
"""Seconds that one step may be off; on v1.0-mini steps take 0.40 to 0.60 s."""

MAX_MEDIAN_OFF = 0.05
"""Seconds that the median of three or more steps may be off; on v1.0-mini it is 0.0002 s off."""

SAME = 0.02
"""Metres by which two lengths of one step may differ: positions are rounded."""

Trajectory = Sequence[tuple[float, float]]


def wrong_step(seconds: NDArray[np.float64]) -> float | None:
    """The time between keyframes if it is not 0.5 s.

    Args:
        seconds: steps between successive keyframes, shape (N,). Where keyframes are left out a step counts as several:
            only those up to one and a half times the shortest tell.
    """
    if not len(seconds):
        return None
    told = seconds[seconds < 1.5 * seconds.min()]
    step = float(np.median(told))
    return step if abs(step - STEP_SECONDS) > (MAX_MEDIAN_OFF if len(told) > 2 else MAX_JITTER) else None


def wrong_step_of_set(trajectories: Mapping[int, Trajectory]) -> float | None:
    """The time between the keyframes of a planning set's scene if it is not 0.5 s, although trajectories take it to be.

    Samples may stand at other times than every 0.5 s, as where only each second keyframe is asked about. Then later
    trajectories must go on where earlier ones say.

    Args:
        trajectories: positions every 0.5 s, of samples by time stamp in microseconds.
    """
    times = sorted(trajectories)
    seconds = np.diff(times) / 1e6
    step = wrong_step(seconds[seconds < FUTURE_STEPS * STEP_SECONDS])
    if step is None:
        return None
    lengths = [_lengths(trajectories[time]) for time in times]
    agrees = False
    for one, other in combinations(range(len(times)), 2):
        shift, apart = (times[other] - times[one]) / 1e6 / STEP_SECONDS, other - one
        if abs(shift - round(shift)) > 0.2 or not 0 < round(shift) < FUTURE_STEPS or round(shift) == apart:
            continue
        stated, numbered = (_goes_on(lengths[one], lengths[other], by) for by in (round(shift), apart))
        if numbered and not stated:  # the trajectories go from keyframe to keyframe, not by time
            return step
        agrees |= stated and not numbered
    return None if agrees else step


def _lengths(trajectory: Trajectory) -> NDArray[np.float64]:
    return np.linalg.norm(np.diff([(0.0, 0.0), *trajectory], axis=0), axis=1)


def _goes_on(one: NDArray[np.float64], other: NDArray[np.float64], by: int) -> bool:
    """Whether a trajectory goes on where another is `by` steps later."""
    count = min(len(one) - by, len(other))
    return count > 0 and bool((np.abs(one[by : by + count] - other[:count]) < SAME).all())
