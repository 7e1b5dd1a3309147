"""What tables and planning sets say of themselves is not ignored: times, sensors, paths, numbers of keyframes."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senna_prune.errors import SampleError, TableError
from senna_prune.nuscenes.behaviour import wrong_step
from senna_prune.nuscenes.conversion import ConversionSettings, convert
from senna_prune.nuscenes.set_check import check_set, wrong_step_of_set
from senna_prune.task.sample import PlanningSample, read_samples, write_samples
from tests.conftest import shared_path
from tests.nuscenes.tiny_tables import START, VERSION, edit, straight, write_tables

Records = list[dict[str, Any]]
few = settings(max_examples=12, deadline=None)
other_steps = st.one_of(st.floats(0.02, 0.42), st.floats(0.58, 2.5))  # 12 Hz cameras give 0.417 s or 0.583 s
jitter = st.lists(st.floats(-0.1, 0.1), min_size=10, max_size=10)


def converted(change: Callable[[Path], object] = lambda root: None) -> list[PlanningSample]:
    """The set of a small world after a change of its tables."""
    with tempfile.TemporaryDirectory() as folder:
        objects = {"scene-0103": [("vehicle.car", [(20.0, 3.0, 0.0)] * 9), ("vehicle.bus", [(9.0, 9.0, 0.0)])]}
        root = write_tables(Path(folder), {"scene-0103": straight(9, 5.0)}, objects)
        change(root)
        convert(ConversionSettings(root, VERSION, root / "set.jsonl", kinds=("plan", "vru")))
        return read_samples(root / "set.jsonl")


def at_times(offsets: list[float]) -> Callable[[Path], None]:
    """Keyframes and what belongs to them so many seconds after the first."""
    times = [START + round(1e6 * offset) for offset in offsets]

    def change(root: Path) -> None:
        per_keyframe = {"sample": 1, "sample_data": 7, "ego_pose": 7}
        for table, count in per_keyframe.items():
            edit(
                root, table, lambda records, n=count: [r.update(timestamp=times[i // n]) for i, r in enumerate(records)]
            )

    return change


@few
@given(step=other_steps, noise=jitter)
def test_keyframes_at_another_step_are_refused_with_it(step: float, noise: list[float]) -> None:
    offsets = [step * (n + 0.1 * noise[n]) for n in range(9)]
    with pytest.raises(TableError, match=r"keyframes of scene-0103 are [\d.]+ s apart, not 0\.5 s") as refused:
        converted(at_times(offsets))
    told = re.search(r"are ([\d.]+) s", str(refused.value))
    assert told
    assert float(told[1]) == pytest.approx(step, rel=0.05)


@few
@given(noise=jitter)
def test_real_jitter_changes_nothing_but_time_stamps(noise: list[float]) -> None:
    real, even = converted(at_times([0.5 * n + 0.5 * noise[n] for n in range(9)])), converted()
    assert [replace(one, timestamp=0, source="") for one in real] == [
        replace(one, timestamp=0, source="") for one in even
    ]


@few
@given(missing=st.integers(1, 7))
def test_a_missing_keyframe_is_named(missing: int) -> None:
    with pytest.raises(TableError, match=rf"1\.00 s lie between 'scene-0103-sample-{missing - 1}' and"):
        converted(at_times([0.5 * (n + (n >= missing)) for n in range(9)]))


def drive(count: int, seed: int) -> np.ndarray:
    """Lengths of the steps of an uneven drive, metres every 0.5 s."""
    return np.random.default_rng(seed).uniform(1, 8, count)


def future(lengths: np.ndarray) -> list[tuple[float, float]]:
    return [(0.0, float(y)) for y in np.round(np.cumsum(lengths), 4)]


@few
@given(every=st.sampled_from([2, 3, 4]), seed=st.integers(0, 99), step=other_steps)
def test_sets_of_each_second_keyframe_pass_and_sets_at_another_step_do_not(every: int, seed: int, step: float) -> None:
    lengths, starts = drive(40, seed), range(0, 30, every)
    assert wrong_step_of_set({500_000 * n: future(lengths[n : n + 6]) for n in starts}) is None
    found = wrong_step_of_set({round(1e6 * step) * n: future(lengths[n : n + 6]) for n in range(20)})
    assert found == pytest.approx(step, rel=1e-3)


@few
@given(every=st.integers(2, 5), seed=st.integers(0, 9))
def test_sets_asked_more_often_than_every_half_second_pass(every: int, seed: int) -> None:
    fine = np.random.default_rng(seed).uniform(0.2, 2, 40 * every)  # metres in each part of half a second
    sums = np.concatenate([[0.0], np.cumsum(fine)])
    parts = {n: future(np.diff(sums[n : n + 6 * every + 1 : every])) for n in range(20)}
    assert wrong_step_of_set({round(n * 5e5 / every): one for n, one in parts.items()}) is None


@pytest.mark.parametrize("factor", [0.2, 2.0])
def test_a_real_set_with_other_times_fails_its_check(tmp_path: Path, factor: float) -> None:
    root, out = shared_path("nuscenes_mini"), tmp_path / "set.jsonl"
    convert(ConversionSettings(root, "v1.0-mini", out, "mini_val"))
    assert not check_set(out).faults
    write_samples(out, [replace(one, timestamp=int(one.timestamp * factor)) for one in read_samples(out)])
    assert [fault.split(": ")[1] for fault in check_set(out).faults] == [
        f"keyframes are {0.5 * factor:.3g} s apart, not 0.5 s"
    ] * 2


def test_one_or_two_keyframes_tell_no_step() -> None:
    assert wrong_step(np.array([])) is None
    assert wrong_step(np.array([0.41])) is None  # within the jitter of one step
    assert wrong_step(np.array([0.41, 0.41, 0.42])) == pytest.approx(0.41)


def test_backslashes_become_slashes_or_are_refused() -> None:
    def windows(root: Path) -> None:
        edit(
            root, "sample_data", lambda rows: [row.update(filename=row["filename"].replace("/", "\\")) for row in rows]
        )

    ours = converted(windows)
    assert [one.images for one in ours] == [one.images for one in converted()]
    record = ours[0].to_dict()
    record["images"]["CAM_BACK"] = "samples\\CAM_BACK\\a.jpg"
    with pytest.raises(SampleError, match=r"has backslashes\. Write paths with slashes"):
        PlanningSample.from_dict(json.loads(json.dumps(record)))


def put(at: int = 0, **values: object) -> Callable[[Records], None]:
    return lambda records: records[at].update(values)


def share(records: Records) -> None:
    for record in records:
        record["calibrated_sensor_token"] = "calibrated-CAM_BACK"


def share_unnamed(records: Records) -> None:
    for number, record in enumerate(records):
        record.update(calibrated_sensor_token="calibrated-CAM_BACK", filename=f"{number}.jpg")


def every_second(records: Records) -> None:
    del records[1:8:2]
    for number in range(4):
        records[number]["next"] = records[number + 1]["token"]


def another_object(records: Records) -> None:
    records.append(records[0] | {"token": "more", "instance_token": "instance-1", "next": records[1]["token"]})


STATED: dict[str, tuple[str, Callable[[Records], None], str]] = {
    # what is stated: table, change, what the message says
    "one calibration for all": (
        "sample_data",
        share,
        "of CAM_BACK by its calibrated_sensor_token",
    ),
    "the same, files without channel": ("sample_data", share_unnamed, "share the calibrated_sensor_token"),
    "the lidar a camera": ("sensor", put(modality="camera"), "modality of 'sensor-LIDAR_TOP' is 'camera', not 'lidar'"),
    "a camera a radar": ("sensor", put(1, modality="radar"), "modality of 'sensor-CAM_FRONT' is 'radar'"),
    "more keyframes": ("scene", put(nbr_samples=12), "has 12 keyframes here, 9 by following `next`"),
    "a chain cut short": ("sample", put(4, next=""), "has 9 keyframes here, 5 by following `next`"),
    "an image of another time": ("sample_data", put(3, timestamp=START + 10**7), "is .10.00 s from its keyframe"),
    "a pose of another time": ("ego_pose", put(7, timestamp=START), "is -0.50 s from its keyframe"),
    "annotations of every second keyframe": ("sample_annotation", every_second, "follow each other every 2 keyframes"),
    "another object's annotation": ("sample_annotation", another_object, "of another instance"),
    "a drive letter": ("sample_data", put(3, filename="C:\\data\\a.jpg"), "'C:/data/a.jpg', not a path inside"),
    "no keyframe's record": (
        "sample_data",
        lambda rows: [row.update(is_key_frame=False) for row in rows],
        "no LIDAR_TOP",
    ),
    "sweeps that say they are keyframes": (
        "sample_data",
        lambda rows: rows.append(rows[1] | {"token": "sweep", "filename": "sweeps/CAM_FRONT/x.jpg"}),
        "two CAM_FRONT records",
    ),
}


@pytest.mark.parametrize("name", STATED)
def test_contradictions_are_named(name: str) -> None:
    table, change, message = STATED[name]
    with pytest.raises(TableError, match=message):
        converted(lambda root: edit(root, table, change))


def test_can_bus_messages_one_folder_deeper_are_named() -> None:
    def deeper(root: Path) -> None:
        (root / "can_bus" / "can_bus").mkdir(parents=True)
        (root / "can_bus" / "can_bus" / "scene-0103_pose.json").write_text("[]")

    with pytest.raises(TableError, match="one folder deeper"):
        converted(deeper)
