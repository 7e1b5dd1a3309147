"""The validator of planning sets, and the example that writes one from own recordings."""

from __future__ import annotations

import json
import math
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from senna_prune.errors import SampleError
from senna_prune.nuscenes.command_line import main
from senna_prune.nuscenes.conversion import ConversionSettings, convert
from senna_prune.nuscenes.set_check import check_set
from senna_prune.task.sample import read_samples
from tests.conftest import ROOT, shared_path
from tests.nuscenes.tiny_tables import STEP, VERSION, arc, straight, write_tables


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A converted set: two plans, eight road-user and two motion samples of one scene."""
    objects = {"scene-0103": [("vehicle.car", [(20.0, 0.0, 0.0)] * 8)]}
    root = write_tables(tmp_path / "data", {"scene-0103": straight(8, 5.0)}, objects)
    out = tmp_path / "set.jsonl"
    convert(ConversionSettings(root, VERSION, out, kinds=("plan", "vru", "motion")))
    return out


def test_a_converted_set_is_sound(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(sound)]) == 0
    assert capsys.readouterr().out == f"{sound}: 8 vru, 2 motion, 2 plan samples of 1 scenes\n"


@pytest.mark.parametrize("convention", ["upstream", "corrected"])
def test_real_sets_are_sound(tmp_path: Path, convention: str) -> None:
    options = ["--dataroot", str(shared_path("nuscenes_mini")), "--version", "v1.0-mini", "--kinds", "plan,vru,motion"]
    out = tmp_path / "set.jsonl"
    main([*options, "--convention", convention, "--out", str(out)])
    check = check_set(out)
    assert check.samples == {"vru": 404, "motion": 1493, "plan": 344}
    assert not check.faults + check.disagreements


def test_the_demo_set_is_sound() -> None:
    demo = ROOT / "data" / "demo"
    check = check_set(demo / "planning_set.jsonl", demo)
    assert check.samples.total() == len(read_samples(demo / "planning_set.jsonl"))
    assert not check.faults + check.disagreements


Spoil = Callable[[dict[str, Any]], object]
PLAN_FAULTS: dict[str, tuple[Spoil, str]] = {
    "a field of another type": (lambda record: record.update(speed="fast"), "speed is 'fast', not a number"),
    "another camera": (lambda record: record["images"].update(CAM_TOP="x.jpg"), "6 <image> markers for 7 cameras"),
    "no speed": (lambda record: record.update(speed=None), "needs a speed and a command"),
    "another command": (
        lambda record: record.update(command="go home"),
        "the command is 'go home', none of go straight",
    ),
    "another speed": (lambda record: record.update(speed=7.0), "planning_question(speed, command)"),
    "another answer": (lambda record: record.update(answer="left"), "is no plan: 'left'"),
    "a short trajectory": (lambda record: record.update(trajectory=[[0.0, 1.0]]), "the trajectory has 1 points, not 6"),
    "an image elsewhere": (lambda record: record["images"].update(CAM_BACK="/x.jpg"), "leads out of its root"),
    "other labels": (
        lambda record: record.update(question=record["question"].replace("<FRONT VIEW>", "<TOP VIEW>")),
        "does not begin with the labelled images",
    ),
    "a time stamp of its own": (lambda record: record.update(timestamp=1), "has another scene or time stamp before"),
}


def spoil(path: Path, kind: str, change: Spoil) -> None:
    """Change the first sample of a kind."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    change(next(record for record in records if record["kind"] == kind))
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.mark.parametrize("name", PLAN_FAULTS)
def test_faults_of_a_plan_are_said(sound: Path, name: str) -> None:
    change, message = PLAN_FAULTS[name]
    spoil(sound, "plan", change)
    faults = check_set(sound).faults
    assert any(fault.startswith("line 3: ") and message in fault for fault in faults), faults


def test_answers_of_other_kinds_are_checked(sound: Path) -> None:
    spoil(sound, "vru", lambda record: record.update(answer="Perhaps."))
    spoil(sound, "motion", lambda record: record.update(answer="Object 1: KEEP"))
    assert [fault.partition(" the answer ")[2] for fault in check_set(sound).faults] == [
        "says neither yes nor no: 'Perhaps.'",
        "does not name a speed and a path for each object: 'Object 1: KEEP'",
    ]


def test_every_fault_is_said_and_the_exit_is_an_error(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = sound.read_text().splitlines()
    sound.write_text("\n".join([lines[0], "{", lines[0], "", "[" * 10_000]) + "\n")
    with pytest.raises(SampleError, match="3 faults"):
        main(["--check", str(sound)])
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "  3 faults:"
    assert [line.split(":")[0].strip() for line in said[2:]] == ["line 2", "line 3", "line 5"]
    sound.write_text("")
    assert check_set(sound).faults == ["the set is empty"]


def test_swapped_axes_are_noticed(sound: Path) -> None:
    spoil(sound, "plan", lambda record: record.update(trajectory=[[y, x] for x, y in record["trajectory"]]))
    check = check_set(sound)
    assert not check.faults
    assert check.disagreements == ["line 3: the trajectory is KEEP, RIGHT_TURN, the answer 'KEEP, STRAIGHT'"]


def test_pictures_are_looked_for_below_the_root(sound: Path) -> None:
    assert len(check_set(sound, sound.parent).faults) == 12 * 6
    for sample in read_samples(sound):
        for name in sample.images.values():
            (sound.parent / name).parent.mkdir(parents=True, exist_ok=True)
            (sound.parent / name).touch()
    assert not check_set(sound, sound.parent).faults


def test_own_recordings_give_the_set_that_tables_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"scene-0103": straight(14, 5.0, yaw=30.0), "scene-0916": arc(16, 6.0, -20.0)}
    tables, out, own, table = (tmp_path / name for name in ("data", "set.jsonl", "own.jsonl", "keyframes.csv"))
    write_tables(tables, places)
    convert(ConversionSettings(tables, VERSION, out))
    expected = read_samples(out)
    rows = ["token,scene,timestamp,speed,x,y,yaw"]
    speeds = {sample.token: sample.speed for sample in expected}
    for scene, drive in places.items():
        for number, (x, y, yaw) in enumerate(drive):
            token = f"{scene}-sample-{number}"
            time = expected[0].timestamp + STEP * number
            rows.append(f"{token},{scene},{time},{speeds.get(token, 0)},{x},{y},{math.radians(yaw)}")
    table.write_text("\n".join(rows) + "\n")
    monkeypatch.setattr("sys.argv", ["own_planning_set", str(table), str(own)])
    runpy.run_path(str(ROOT / "examples" / "own_planning_set.py"), run_name="__main__")
    check = check_set(own)
    assert not check.faults + check.disagreements
    # trajectories differ: the example follows the car's own origin, the tables its lidar, a metre ahead
    for ours, theirs in zip(read_samples(own), expected, strict=True):
        assert replace(ours, timestamp=0, images={}, trajectory=None, source="", answer="") == replace(
            theirs, timestamp=0, images={}, trajectory=None, source="", answer=""
        )
        assert ours.answer == theirs.answer.strip()
