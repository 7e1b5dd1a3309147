from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from senna_prune.errors import FileError, SampleError, SennaPruneError
from senna_prune.nuscenes.conversion import ConversionSettings, convert
from senna_prune.nuscenes.reference_layout import read_reference
from senna_prune.task.labels import Convention
from senna_prune.task.prompts import planning_question
from senna_prune.task.sample import read_samples, write_samples
from tests.nuscenes.tiny_tables import VERSION, straight, write_tables

UPSTREAM = Convention("upstream", "upstream")


@pytest.fixture
def settings(tmp_path: Path) -> ConversionSettings:
    objects = {"scene-0103": [("vehicle.car", [(20.0, 0.0, 0.0)] * 8)]}
    root = write_tables(tmp_path / "data", {"scene-0103": straight(8, 5.0)}, objects)
    return ConversionSettings(
        root, VERSION, tmp_path / "qa.json", kinds=("plan", "vru", "motion"), convention=UPSTREAM, format="reference"
    )


def test_records_have_the_reference_layout(settings: ConversionSettings) -> None:
    convert(settings)
    records = json.loads(settings.out.read_text())
    plan = next(record for record in records if "your plan" in record["conversations"][0]["value"])
    assert list(plan) == [
        "token",
        "image",
        "images",
        "prev",
        "next",
        "scene_token",
        "fut_valid_flag",
        "ego_fut_trajs",
        "conversations",
        "planning_sample",
    ]
    assert plan["image"] == plan["images"][0]
    assert [path.split("/")[-2] for path in plan["images"]] == list(UPSTREAM.camera_order)
    assert plan["images"][0].startswith(str(settings.dataroot))
    assert (plan["prev"], plan["next"]) == ("", "scene-0103-sample-1")
    assert plan["scene_token"] == "token-scene-0103"
    assert plan["fut_valid_flag"] == "True"
    assert plan["ego_fut_trajs"] == "[0.0, 2.5, 0.0, 5.0, 0.0, 7.5, 0.0, 10.0, 0.0, 12.5, 0.0, 15.0]"
    assert [turn["from"] for turn in plan["conversations"]] == ["human", "gpt"]
    assert plan["conversations"][1]["value"] == "KEEP, STRAIGHT\n"
    near_end, last = records[-2:]
    assert near_end["fut_valid_flag"] == last["fut_valid_flag"] == "False"
    assert near_end["ego_fut_trajs"] == str([0.0, 2.5] * 6)
    assert last["ego_fut_trajs"] == str([0.0] * 12)


@pytest.mark.parametrize("convention", [Convention(), UPSTREAM, Convention("upstream", "corrected")])
def test_there_and_back(settings: ConversionSettings, convention: Convention) -> None:
    convert(replace(settings, convention=convention))
    back, set_ = settings.out.with_name("back.jsonl"), settings.out.with_name("set.jsonl")
    write_samples(back, read_reference(settings.out))
    convert(replace(settings, convention=convention, format="jsonl", out=set_))
    assert back.read_bytes() == set_.read_bytes()


def as_released(path: Path) -> None:
    """Leave out what the released converter does not write."""
    records = json.loads(path.read_text())
    for record in records:
        del record["planning_sample"]
    path.write_text(json.dumps(records))


def test_a_file_of_the_released_converter(settings: ConversionSettings) -> None:
    convert(settings)
    as_released(settings.out)
    imported = {sample.key: sample for sample in read_reference(settings.out, UPSTREAM)}
    convert(replace(settings, format="jsonl"))
    for sample in read_samples(settings.out):
        index = 0 if sample.kind == "motion" else sample.index  # one question a keyframe here, counted from 0
        back = imported.pop(replace(sample, index=index).key)
        assert (back.question, back.answer, back.images) == (sample.question, sample.answer, dict(sample.images))
        assert (back.speed, back.command, back.convention) == (sample.speed, sample.command, UPSTREAM)
        assert back.view_paths() == sample.view_paths()
        assert back.scene == "token-scene-0103"
        assert back.trajectory == (sample.trajectory if len(sample.trajectory or ()) == 6 else None)
    assert not imported


def test_the_convention_is_asked_for_where_the_file_does_not_tell(settings: ConversionSettings) -> None:
    convert(replace(settings, convention=Convention()))
    with pytest.raises(SampleError, match="record 0: the convention is 'corrected', not 'upstream'"):
        read_reference(settings.out, UPSTREAM)
    as_released(settings.out)
    with pytest.raises(SampleError, match=r"record 0: nothing tells the convention .*Pass --convention upstream"):
        read_reference(settings.out)
    with pytest.raises(SampleError, match="the convention is 'cameras=corrected,command=upstream', not 'upstream'"):
        read_reference(settings.out, UPSTREAM)
    assert read_reference(settings.out, Convention())[0].convention == Convention()


def test_trajectories_written_under_numpy_2(settings: ConversionSettings) -> None:
    convert(settings)
    as_released(settings.out)
    records = json.loads(settings.out.read_text())
    for record in records:
        record["ego_fut_trajs"] = "[" + ", ".join(f"np.float32({number})" for number in range(12)) + "]"
    settings.out.write_text(json.dumps(records))
    assert read_reference(settings.out, UPSTREAM)[0].trajectory == tuple((2.0 * n, 2.0 * n + 1) for n in range(6))


def ask_at(record: dict[str, Any], speed: str) -> None:
    record["conversations"][0]["value"] = planning_question(5.0, "go straight").replace("is 5 m/s", f"is {speed} m/s")


def shuffle(record: dict[str, Any]) -> None:
    record["images"] = record["images"][::-1]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda record: record.pop("scene_token"), "not a record of the reference's layout"),
        (lambda record: record.update(conversations=[]), "not a record of the reference's layout"),
        (lambda record: record["conversations"][0].update(value=None), "must be texts"),
        (lambda record: record["conversations"][1].update(value=None), "must be texts"),
        (lambda record: record.update(token=["a"]), "must be texts"),
        (lambda record: record.update(images="a.jpg"), "images is not a list of paths"),
        (lambda record: record.update(images=["a.jpg"] * 6), "in the image path 'a.jpg'"),
        (shuffle, "the images stand in an unknown order: CAM_BACK_RIGHT"),
        (lambda record: record["conversations"][0].update(value="How are you?"), "of no known kind"),
        (lambda record: record["conversations"][0].update(value="What is your plan?" + "<image>" * 5), "no known kind"),
        (lambda record: record.update(token="\ud800"), "surrogates not allowed"),
        (lambda record: record.update(token=7), "must be texts"),
        (lambda record: record.update(ego_fut_trajs=[float("inf")] * 12), "trajectory is "),
        (lambda record: record.update(ego_fut_trajs=[10**400] * 12), "not a list of numbers"),
        (lambda record: record["images"].append("samples/CAM_TOP/x.jpg"), "unknown order"),
        (lambda record: ask_at(record, "7" * 5_000), "speed is inf"),
        (lambda record: record.update(ego_fut_trajs="[1.0, two]"), "ego_fut_trajs is not a list of numbers"),
        (lambda record: record.update(ego_fut_trajs=[1.0] * 11), "ego_fut_trajs holds 11 numbers, not 12"),
        (lambda record: record.update(ego_fut_trajs=[float("nan")] * 12), "trajectory is "),
    ],
)
def test_spoilt_records_are_named(settings: ConversionSettings, spoil: Any, problem: str) -> None:
    convert(settings)
    as_released(settings.out)
    records = json.loads(settings.out.read_text())
    spoil(records[1])
    settings.out.write_text(json.dumps(records))
    with pytest.raises(SampleError, match=f"record 1: .*{problem}"):
        read_reference(settings.out, UPSTREAM)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda record: record.update(planning_sample=[]), "not a record of the reference's layout"),
        (lambda record: record["planning_sample"].pop("scene"), "not a record of the reference's layout"),
        (lambda record: record["planning_sample"].update(kind=5), "kind is 5, not a text"),
        (lambda record: record["planning_sample"].update(convention={"cameras": "left"}), "not a convention"),
        (lambda record: record.update(token="scene-0103-sample-0"), "stands twice"),
    ],
)
def test_spoilt_records_of_our_own_are_named(settings: ConversionSettings, spoil: Any, problem: str) -> None:
    convert(replace(settings, kinds=("plan",)))
    records = json.loads(settings.out.read_text())
    spoil(records[1])
    settings.out.write_text(json.dumps(records))
    with pytest.raises(SampleError, match=f"record 1: .*{problem}"):
        read_reference(settings.out)


@pytest.mark.parametrize(("text", "problem"), [("[", "not JSON"), ("{}", "not a JSON array"), ("[]", "an empty list")])
def test_spoilt_files(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(FileError, match="No such file"):
        read_reference(tmp_path / "qa.json")
    (tmp_path / "qa.json").write_text(text)
    with pytest.raises(SennaPruneError, match=problem):
        read_reference(tmp_path / "qa.json")
