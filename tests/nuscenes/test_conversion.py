"""Tables in, planning set out: on tiny tables whose numbers are known, and on the real mini split."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from senna_prune.errors import ConfigError, FileError, TableError
from senna_prune.nuscenes.conversion import ConversionSettings, convert, in_order
from senna_prune.task.labels import CAMERAS, Convention
from senna_prune.task.prompts import planning_question
from senna_prune.task.sample import PlanningSample, read_samples
from tests.conftest import shared_path
from tests.nuscenes.tiny_tables import START, STEP, VERSION, arc, edit, straight, write_tables

OBJECTS = {
    "scene-0103": [
        ("human.pedestrian.adult", [(12.5, 3.5, 0.0)] * 10),  # from keyframe 0's lidar 3.5 m to the left, 11.5 m ahead
        ("vehicle.car", [(31.5 + 2.6 * n, -0.5, 0.0) for n in range(10)]),  # 5.2 m/s, straight on
        ("movable_object.debris", [(-9.5, -0.5, 0.0)] * 10),  # behind; its category has no short name
        ("vehicle.truck", [(15.0, -2.0, 0.0)] * 4),  # gone before 3 s are over
    ]
}


@pytest.fixture
def settings(tmp_path: Path) -> ConversionSettings:
    scenes = {"scene-0103": straight(10, 5.0), "scene-0916": arc(16, 6.0, -20.0)}
    root = write_tables(tmp_path / "data", scenes, OBJECTS)
    return ConversionSettings(dataroot=root, version=VERSION, out=tmp_path / "set.jsonl")


def by_kind(samples: list[PlanningSample], token: str, kind: str) -> list[PlanningSample]:
    return [sample for sample in samples if sample.token == token and sample.kind == kind]


def test_a_planning_set(settings: ConversionSettings) -> None:
    report = convert(settings)
    samples = read_samples(settings.out)
    assert report.samples == Counter(plan=len(samples)) == Counter(plan=4 + 10)
    assert report.skipped == {("plan", "the scene ends within 3 s"): 12}
    assert (report.scenes, report.keyframes, report.absent_scenes) == (2, 26, [])
    first = samples[0]
    assert (first.token, first.scene, first.timestamp) == ("scene-0103-sample-0", "scene-0103", START)
    assert (first.speed, first.command, first.answer) == (5.0, "go straight", "KEEP, STRAIGHT\n")
    assert "Your current speed is 5 m/s, the navigation command is 'go straight'" in first.question
    assert first.images["CAM_BACK"] == f"samples/CAM_BACK/scene-0103__CAM_BACK__{START}.jpg"
    assert first.trajectory == tuple((0.0, 2.5 * n) for n in range(1, 7))
    assert first.question == planning_question(5.0, "go straight")
    tables, origin = first.source.split("/")
    assert (len(tables), origin) == (16, "displacement")
    turning = by_kind(samples, "scene-0916-sample-0", "plan")[0]
    assert (turning.command, turning.answer) == ("turn right", "KEEP, RIGHT_TURN\n")
    assert samples == sorted(samples, key=lambda sample: (sample.scene, sample.timestamp))


def test_questions_about_objects(settings: ConversionSettings) -> None:
    convert(replace(settings, kinds=("motion", "vru", "plan")))
    samples = read_samples(settings.out)
    kinds = [sample.kind for sample in samples if sample.token == "scene-0103-sample-0"]
    assert kinds == ["vru", "motion", "motion", "plan"]
    seen = by_kind(samples, "scene-0103-sample-0", "vru")[0]
    assert seen.answer == "Yes, I see a pedestrian located 11 meters ahead of me and 3 meters to the left."
    assert by_kind(samples, "scene-0103-sample-9", "vru")[0].answer.startswith("No, I don't see any")
    front, back = by_kind(samples, "scene-0103-sample-0", "motion")
    assert (front.index, back.index) == (0, 3)
    assert front.answer == "Object 1: STOP, STRAIGHT\nObject 2: KEEP, STRAIGHT\n"
    assert "Object 1: pedestrian, 11 meters ahead, 3 meters to the left, speed of 0 m/s.\n" in front.question
    assert "Object 2: car, 30 meters ahead, 0 meters to the right, speed of 5 m/s.\n" in front.question
    assert "Object 1: movable_object.debris, 10 meters behind, 0 meters to the right" in back.question
    assert "truck" not in front.question
    assert front.source != by_kind(samples, "scene-0103-sample-0", "plan")[0].source
    assert by_kind(samples, "scene-0103-sample-8", "vru")[0].trajectory == ((0.0, 2.5),)  # as far as the scene goes


def test_conventions(settings: ConversionSettings) -> None:
    commands = {}
    for convention in (Convention(), Convention("upstream", "upstream"), Convention("corrected", "upstream")):
        convert(replace(settings, convention=convention))
        sample = read_samples(settings.out)[0]
        assert sample.convention == convention
        assert sample.view_paths()[1].split("/")[1] == convention.camera_order[1]
        commands[convention.name] = sample.command
    assert commands == {
        "corrected": "go straight",
        "upstream": "turn left",
        "cameras=corrected,command=upstream": "turn left",
    }


def test_missing_images_leave_keyframes_out(settings: ConversionSettings) -> None:
    convert(settings)
    kept = read_samples(settings.out)[:3]
    for path in {path for sample in kept for path in sample.images.values()}:
        (settings.dataroot / path).parent.mkdir(parents=True, exist_ok=True)
        (settings.dataroot / path).touch()
    (settings.dataroot / kept[1].images["CAM_BACK"]).unlink()
    report = convert(replace(settings, require_images=True, kinds=("plan", "vru")))
    samples = read_samples(settings.out)
    assert [sample.token for sample in samples if sample.kind == "plan"] == [kept[0].token, kept[2].token]
    assert report.skipped["plan", "an image file is missing"] == 12
    assert report.skipped["vru", "an image file is missing"] == 24
    assert report.missing_images[0] == kept[1].images["CAM_BACK"]
    assert len(report.missing_images) == 1 + 23 * 6
    assert report.listing.read_text().splitlines() == report.missing_images
    convert(settings)
    assert not report.listing.exists()


def test_no_image_at_all(settings: ConversionSettings) -> None:
    with pytest.raises(TableError, match=r"no sample: .* 14 keyframes left out: an image file is missing"):
        convert(replace(settings, require_images=True))
    assert not settings.out.exists()


def test_a_camera_without_record(settings: ConversionSettings) -> None:
    edit(settings.dataroot, "sample_data", lambda records: records.pop(len(CAMERAS)))  # keyframe 0's last camera
    report = convert(settings)
    assert report.skipped["plan", "a camera has no record"] == 1
    assert read_samples(settings.out)[0].token == "scene-0103-sample-1"


def test_workers_do_not_change_the_set(settings: ConversionSettings) -> None:
    all_kinds = replace(settings, kinds=("plan", "vru", "motion"))
    alone, together = convert(all_kinds), convert(replace(all_kinds, workers=2, out=settings.out.with_name("2.jsonl")))
    assert together.out.read_bytes() == alone.out.read_bytes()
    assert together == replace(alone, out=together.out)
    edit(settings.dataroot, "sample", lambda records: records[20].update(next="gone"))
    with pytest.raises(TableError, match=r"sample\.json: no record with token 'gone'"):
        convert(replace(all_kinds, workers=2))


def test_scenes_are_read_no_further_than_twice_the_workers_ahead() -> None:
    taken = 0

    def scenes() -> Iterator[int]:
        nonlocal taken
        while taken < 30:
            taken += 1
            yield taken

    with ThreadPoolExecutor(2) as pool:
        for number, result in enumerate(in_order(pool, abs, scenes(), ahead=4), start=1):
            assert result == number
            assert taken <= number + 3
    assert number == taken == 30


def test_a_failing_scene_cancels_those_that_wait() -> None:
    gate, done = threading.Event(), []

    def work(number: int) -> int:
        gate.wait(10)
        if number == 0:
            raise TableError("broken")
        time.sleep(0.1)
        done.append(number)
        return number

    with ThreadPoolExecutor(1) as pool:
        results = in_order(pool, work, range(20), ahead=8)
        threading.Timer(0.1, gate.set).start()
        with pytest.raises(TableError, match="broken"):
            next(results)
    assert len(done) < 7


def test_objects_alone_show_no_speed(settings: ConversionSettings) -> None:
    report = convert(replace(settings, kinds=("vru",)))
    assert not report.speed_scenes
    assert all("/" not in sample.source for sample in read_samples(settings.out))


@pytest.mark.parametrize("name", ["", "set.jsonl/deeper.jsonl"])
def test_a_place_that_cannot_be_written_is_named_before_the_tables_are_read(
    settings: ConversionSettings, name: str
) -> None:
    (settings.out.parent / "set.jsonl").touch()
    place = settings.out.parent / name
    with pytest.raises(FileError, match="cannot be written"):
        convert(replace(settings, dataroot=Path("absent"), out=place))


def test_the_test_split_has_plans_but_no_objects(tmp_path: Path) -> None:
    root = write_tables(tmp_path, {"scene-0077": straight(8, 5.0)}, version="v1.0-test")
    settings = ConversionSettings(root, "v1.0-test", tmp_path / "set.jsonl", split="test")
    report = convert(settings)
    assert report.samples == {"plan": 2}
    assert len(report.absent_scenes) == 149
    with pytest.raises(TableError, match=r"v1\.0-test has no annotations.* Ask for --kinds plan"):
        convert(replace(settings, kinds=("plan", "vru")))


def test_plans_need_no_annotation_tables(settings: ConversionSettings) -> None:
    for table in ("category", "instance", "sample_annotation"):
        (settings.dataroot / VERSION / f"{table}.json").unlink()
    assert convert(settings).samples == {"plan": 14}


def test_can_bus(settings: ConversionSettings) -> None:
    with pytest.raises(TableError, match="no CAN bus messages"):
        convert(replace(settings, speed_source="can_bus"))
    folder = settings.dataroot / "can_bus"
    folder.mkdir()
    messages = [{"utime": START + STEP * n, "vel": [20.0 + n, 0, 0]} for n in range(10)]
    (folder / "scene-0103_pose.json").write_text(json.dumps(messages))
    speeds = {}
    for source in ("auto", "can_bus", "past"):
        report = convert(replace(settings, speed_source=source))  # type: ignore[arg-type]
        speeds[source] = [sample.speed for sample in read_samples(settings.out)]
        origins = [sample.source.split("/")[1] for sample in read_samples(settings.out)]
        assert (
            Counter(origins)
            == {
                "auto": {"can_bus": 4, "displacement": 10},
                "can_bus": {"can_bus": 4},
                "past": {"past": 12},
            }[source]
        )
        assert report.speed_scenes == dict.fromkeys(origins, 1 if source != "past" else 2)
        assert report.skipped["plan", "no speed from this source"] == {"auto": 0, "can_bus": 10, "past": 2}[source]
    assert speeds["can_bus"] == [20.0, 21.0, 22.0, 23.0]
    # on the circle the lidar drives chords of 3.0 m, and 5.98 m in two steps
    assert speeds["auto"] == [*speeds["can_bus"], 6.0, *[5.0] * 9]
    assert speeds["past"] == [5.0] * 3 + [6.0] * 9
    elsewhere = folder.rename(settings.dataroot / "moved")
    convert(replace(settings, can_bus=elsewhere))
    assert read_samples(settings.out)[0].speed == 20.0


def test_captions_need_a_captioner(settings: ConversionSettings) -> None:
    with pytest.raises(ConfigError, match="'explanation' questions need a captioner"):
        convert(replace(settings, kinds=("plan", "explanation")))


@pytest.mark.parametrize(("split", "count", "ended"), [("mini_val", 69, 12), ("mini_train", 275, 48)])
def test_real_mini(tmp_path: Path, split: str, count: int, ended: int) -> None:
    root = shared_path("nuscenes_mini")
    report = convert(ConversionSettings(root, "v1.0-mini", tmp_path / "set.jsonl", split=split))
    assert len(read_samples(report.out)) == count
    assert report.skipped == {("plan", "the scene ends within 3 s"): ended}


def test_real_right_turns_are_told_so(tmp_path: Path) -> None:
    root = shared_path("nuscenes_mini")
    told = {}
    for name in ("upstream", "corrected"):
        settings = ConversionSettings(
            root, "v1.0-mini", tmp_path / "set.jsonl", "mini_val", convention=Convention(name, name)
        )
        convert(settings)
        samples = read_samples(settings.out)
        told[name] = Counter(sample.command for sample in samples if sample.answer.endswith("RIGHT_TURN\n"))
    assert told["upstream"] == {"turn left": 8, "go straight and turn left": 5}
    assert told["corrected"] == {"turn right": 8, "go straight and turn right": 5}
