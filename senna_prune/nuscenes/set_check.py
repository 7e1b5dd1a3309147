"""Checks a planning set that anybody wrote, and says everything that is wrong with it, not the first fault alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from senna_prune.errors import SampleError, SennaPruneError, brief
from senna_prune.files import accessing, confined, decode_json, open_regular
from senna_prune.image_files import open_image
from senna_prune.nuscenes.behaviour import FUTURE_STEPS, STEP_SECONDS, path_labels, speed_labels, wrong_step
from senna_prune.task.answers import Answer, fault_of, parse_answer
from senna_prune.task.labels import CAMERAS, Command, plan_text
from senna_prune.task.prompts import image_prompt, planning_question
from senna_prune.task.sample import PlanningSample

SHOWN = 20
"""Faults printed."""

COMMANDS = frozenset(command.value for command in Command)

SAME = 0.02
"""Metres by which two lengths of one step may differ: positions are rounded."""

Trajectory = Sequence[tuple[float, float]]


@dataclass
class SetCheck:
    """What a planning set holds, and what is wrong with it.

    Attributes:
        samples: number of valid lines by kind.
        scenes: names.
        cameras: of the first sample, in the order of its labels.
        faults: one line each, with the line of the set.
        disagreements: plan samples whose trajectory has another label than the answer. Rounded positions near a
            threshold give a few of them, swapped axes or another frame give many.
    """

    samples: Counter[str] = field(default_factory=Counter)
    scenes: set[str] = field(default_factory=set)
    cameras: tuple[str, ...] = ()
    faults: list[str] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)

    def print(self, path: Path, console: Console) -> None:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.samples.items()) or "no"
        console.print(f"{path}: {kinds} samples of {len(self.scenes)} scenes")
        if self.cameras and {*self.cameras} != {*CAMERAS}:
            console.print(f"  cameras {', '.join(self.cameras)}: the checkpoint's configuration must name the same")
        for lines, what in ((self.faults, "faults"), (self.disagreements, "trajectories disagree with their answer")):
            if lines:
                console.print(f"  {len(lines)} {what}" + (f", the first {SHOWN}:" if len(lines) > SHOWN else ":"))
            for line in lines[:SHOWN]:
                console.print(f"    {line}")


def check_set(path: Path, image_root: Path | None = None) -> SetCheck:
    """Check every line of a planning set, and the lines against each other.

    Args:
        image_root: folder of the images; None leaves unchecked whether they are there.

    Raises:
        FileError: the set cannot be read.
    """
    check = SetCheck()
    keys: dict[str, str] = {}
    keyframes: dict[str, tuple[str, int]] = {}
    trajectories: dict[str, dict[int, Trajectory]] = defaultdict(dict)
    with open_regular(path) as lines, accessing(path, "read"):
        for number, line in enumerate(lines, start=1):
            where = f"line {number}"
            if not line.strip():
                continue
            try:
                sample = PlanningSample.from_dict(decode_json(line, where, error=SampleError), where)
            except SampleError as error:
                check.faults.append(str(error))
                continue
            check.samples[sample.kind] += 1
            check.scenes.add(sample.scene)
            check.cameras = check.cameras or sample.cameras
            if {*sample.cameras} != {*check.cameras}:
                check.faults.append(f"{where}: other cameras than before ({', '.join(sample.cameras)})")
            check.faults += [f"{where}: {fault}" for fault in _faults(sample, image_root)]
            if (first := keys.setdefault(sample.key, where)) != where:
                check.faults.append(f"{where}: the sample of {first} again ({sample.key})")
            keyframe = sample.scene, sample.timestamp
            if keyframes.setdefault(sample.token, keyframe) != keyframe:
                check.faults.append(f"{where}: token {sample.token!r} has another scene or time stamp before")
            if sample.trajectory is not None and len(sample.trajectory) == FUTURE_STEPS:
                trajectories[sample.scene][sample.timestamp] = sample.trajectory
            if disagreement := _disagreement(sample):
                check.disagreements.append(f"{where}: {disagreement}")
    for scene, found in trajectories.items():
        if (step := wrong_step_of_set(found)) is not None:
            check.faults.append(f"scene {scene!r}: keyframes are {step:.3g} s apart, not {STEP_SECONDS} s")
    if not check.samples and not check.faults:
        check.faults.append("the set is empty")
    return check


def _faults(sample: PlanningSample, image_root: Path | None) -> Iterator[str]:
    if not sample.question.startswith(image_prompt(sample.labels)):
        yield "the question does not begin with the labelled images (task.prompts.image_prompt)"
    if sample.kind == "plan":
        yield from _plan_faults(sample)
    if fault := fault_of(sample.kind, sample.answer):
        yield f"the answer {fault}: {brief(sample.answer)}"
    for camera, name in sample.images.items():
        boxes = [seen.boxes[camera] for seen in sample.objects or () if camera in seen.boxes]
        try:
            path = confined(image_root or "", name)
            if image_root is not None and not path.is_file():
                yield f"no image {name!r}"
            elif image_root is not None and boxes:
                width, height = open_image(path).size
                if any(right > width or bottom > height for _, _, right, bottom in boxes):
                    yield f"an object's box leads out of {name!r}, which has {width} x {height} pixels"
        except (OSError, SennaPruneError) as error:
            yield f"image {brief(name)}: {error}"


def _plan_faults(sample: PlanningSample) -> Iterator[str]:
    if sample.speed is None or sample.command is None:
        yield "a plan sample needs a speed and a command"
    elif sample.command not in COMMANDS:
        yield f"the command is {brief(sample.command)}, none of {', '.join(sorted(COMMANDS))}"
    elif sample.question != planning_question(sample.speed, sample.command, sample.labels):
        yield "the question is not task.prompts.planning_question(speed, command)"
    if sample.trajectory is not None and len(sample.trajectory) != FUTURE_STEPS:
        yield f"the trajectory has {len(sample.trajectory)} points, not {FUTURE_STEPS}"


def _disagreement(sample: PlanningSample) -> str | None:
    """How the label of a plan's trajectory differs from its answer."""
    if sample.kind != "plan" or sample.trajectory is None or len(sample.trajectory) != FUTURE_STEPS:
        return None
    points = np.array([sample.trajectory], dtype=np.float32)
    (speed,), (path,) = speed_labels(points), path_labels(points)
    answer = parse_answer(sample.answer)
    if not answer.parsed or answer == Answer(speed, path):
        return None
    return f"the trajectory is {plan_text(speed, path)}, the answer {brief(sample.answer.strip())}"


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
