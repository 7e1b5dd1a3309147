"""Objects as the cameras see them, against the devkit's own projection and by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from senna_prune.errors import SampleError, TableError
from senna_prune.nuscenes.command_line import main
from senna_prune.nuscenes.conversion import ConversionSettings, convert
from senna_prune.nuscenes.geometry import clipped_box
from senna_prune.nuscenes.set_check import check_set
from senna_prune.task.objects import SeenObject
from senna_prune.task.sample import PlanningSample, read_samples
from tests.conftest import shared_path
from tests.nuscenes.tiny_tables import VERSION, edit, straight, write_tables


def iou(one: Any, other: Any) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    common = np.prod(np.clip(high - low, 0, None))
    return float(
        common / (np.prod(np.subtract(one[2:], one[:2])) + np.prod(np.subtract(other[2:], other[:2])) - common)
    )


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["scene-0103", "scene-0916", "scene-0061"])
def test_boxes_are_the_devkits(tmp_path: Path, scene: str) -> None:
    from nuscenes.nuscenes import NuScenes
    from nuscenes.scripts.export_2d_annotations_as_json import post_process_coords
    from nuscenes.utils.geometry_utils import BoxVisibility, view_points

    root, out = shared_path("nuscenes_mini"), tmp_path / "set.jsonl"
    (tmp_path / "scenes.txt").write_text(scene)
    convert(ConversionSettings(root, "v1.0-mini", out, scenes=tmp_path / "scenes.txt", kinds=("vru",), objects=True))
    devkit = NuScenes("v1.0-mini", str(root), verbose=False)
    compared, worst = 0, 1.0
    for sample in read_samples(out)[::4]:
        ours = {(seen.instance, camera): box for seen in sample.objects or () for camera, box in seen.boxes.items()}
        row = devkit.get("sample", sample.token)
        theirs = {}
        for camera in sample.images:
            _, boxes, intrinsic = devkit.get_sample_data(row["data"][camera], BoxVisibility.NONE)
            for box in boxes:
                corners = box.corners()[:, box.corners()[2] > 0]
                if not corners.shape[1]:
                    continue
                pixels = view_points(corners, np.array(intrinsic), normalize=True)[:2].T.tolist()
                if (found := post_process_coords(pixels)) is not None:
                    token = devkit.get("sample_annotation", box.token)["instance_token"]
                    theirs[token, camera] = found
        assert ours.keys() == theirs.keys()
        worst = min([worst, *(iou(ours[key], theirs[key]) for key in ours)])
        compared += len(ours)
    assert compared > 200
    assert worst >= 0.99


@given(st.lists(st.tuples(st.floats(-30, 130), st.floats(-30, 90)), min_size=3, max_size=8, unique=True))
def test_a_cut_hull_is_shapelys(points: list[tuple[float, float]]) -> None:
    shapely = pytest.importorskip("shapely.geometry")
    inside = shapely.MultiPoint(points).convex_hull.intersection(shapely.box(0, 0, 100, 60))
    found = clipped_box(np.array(points), np.array([100.0, 60.0]))
    if inside.is_empty:
        assert found is None
    elif inside.area > 1:
        assert found == pytest.approx(inside.bounds, abs=0.02)


@pytest.fixture
def world(tmp_path: Path) -> ConversionSettings:
    """A car drives along x at 5 m/s; CAM_FRONT looks along x from its origin, 100 px per unit of slope."""
    objects = {
        "scene-0103": [
            ("vehicle.car", [(20.0, 0.0, 0.0)] * 9),  # straight ahead
            ("human.pedestrian.adult", [(20.0, 4.0, 0.0)] * 9),  # 4 m to the left of the way
            ("vehicle.truck", [(-20.0, 0.0, 0.0)] * 9),  # behind
        ]
    }
    root = write_tables(tmp_path / "data", {"scene-0103": straight(9, 5.0)}, objects)

    def sized(records: list[dict[str, Any]]) -> None:
        for record in records:
            record |= {"size": [2.0, 4.0, 2.0], "visibility_token": "4"}

    def cameras(records: list[dict[str, Any]]) -> None:
        for record in records:
            if "CAM" in record["token"]:
                record["camera_intrinsic"] = [[100.0, 0, 50.0], [0, 100.0, 50.0], [0, 0, 1]]
                ahead = record["token"].removeprefix("calibrated-") == "CAM_FRONT"
                # z ahead, x right, y down: or the other way round
                record |= {
                    "translation": [0, 0, 1.0],
                    "rotation": [0.5, -0.5, 0.5, -0.5] if ahead else [0.5, -0.5, -0.5, 0.5],
                }

    edit(root, "sample_annotation", sized)
    edit(root, "calibrated_sensor", cameras)
    edit(root, "sample_data", lambda records: [record.update(width=100, height=80) for record in records])
    (root / VERSION / "visibility.json").write_text(json.dumps([{"token": "4", "level": "v80-100"}]))
    return ConversionSettings(root, VERSION, tmp_path / "set.jsonl", objects=True)


def test_hand_computed_objects(world: ConversionSettings) -> None:
    convert(world)
    car, walker, truck = read_samples(world.out)[0].objects or ()
    # the near face is 18 m away and 2 m wide and high: 100 px * 1 / 18 to each side of (50, 50)
    assert car.boxes["CAM_FRONT"] == pytest.approx((44.44, 44.44, 55.56, 55.56))
    assert walker.boxes["CAM_FRONT"] == pytest.approx((50 - 500 / 18, 44.44, 50 - 300 / 22, 55.56), abs=0.01)
    assert [one.name for one in (car, walker, truck)] == ["car", "pedestrian", "truck"]
    assert [one.distance for one in (car, walker, truck)] == [20.0, 20.4, 20.0]
    assert [one.on_path for one in (car, walker, truck)] == [True, False, False]
    assert (car.visibility, car.instance) == (4, "instance-0")
    assert "CAM_FRONT" not in truck.boxes
    assert "CAM_BACK" in truck.boxes
    later = read_samples(world.out)[2].objects or ()
    assert later[0].distance == 15.0
    assert later[0].instance == car.instance


def test_objects_survive_files_and_are_checked(world: ConversionSettings) -> None:
    main(["--dataroot", str(world.dataroot), "--version", VERSION, "--objects", "--out", str(world.out)])
    plain = world.out.with_name("plain.jsonl")
    convert(replace(world, objects=False, out=plain))
    assert [replace(one, objects=None, source="") for one in read_samples(world.out)] == [
        replace(one, source="") for one in read_samples(plain)
    ]
    assert "objects" not in plain.read_text()
    assert not check_set(world.out).faults
    qa = world.out.with_name("qa.json")
    convert(replace(world, format="reference", out=qa))
    main(["--import-reference", str(qa), "--out", str(plain)])
    assert plain.read_bytes() == world.out.read_bytes()


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no name": (lambda one: one.pop("name"), "missing required field `name`"),
    "another field": (lambda one: one.update(colour="red"), "unknown field 'colour'"),
    "three numbers": (lambda one: one["boxes"].update(CAM_FRONT=[1, 2, 3]), "length 4"),
    "another camera": (lambda one: one["boxes"].update(CAM_TOP=[1, 2, 3, 4]), "no camera 'CAM_TOP'"),
    "left of right": (lambda one: one["boxes"].update(CAM_FRONT=[9, 2, 3, 4]), "not left, top, right, bottom"),
    "outside": (lambda one: one["boxes"].update(CAM_FRONT=[-9, 2, 3, 4]), "not left, top, right, bottom"),
    "visibility": (lambda one: one.update(visibility=7), "visibility 7"),
    "distance": (lambda one: one.update(distance=-1.0), "distance -1.0"),
    "a lone surrogate": (lambda one: one.update(name="\ud800"), "not printable"),
    "a flag": (lambda one: one.update(on_path="yes"), "bool"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fleets_own_boxes_are_checked(name: str) -> None:
    change, message = FAULTS[name]
    record = PlanningSample("t", "s", 1, "vru", {"CAM_FRONT": "a.jpg"}, "<image>", "No").to_dict()
    seen = SeenObject("car", {"CAM_FRONT": (1.0, 2.0, 3.0, 4.0)}, 5.0, "i", 4, True)
    record["objects"] = [seen.to_dict()]
    assert PlanningSample.from_dict(record).objects == (seen,)
    change(record["objects"][0])
    with pytest.raises(SampleError, match=message):
        PlanningSample.from_dict(record)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("sample_annotation", lambda rows: rows[0].pop("size"), "'instance-0' has no size"),
        ("sample_data", lambda rows: rows[1].update(width=0), "no width and height"),
        (
            "calibrated_sensor",
            lambda rows: rows[1].update(camera_intrinsic=[]),
            "camera_intrinsic of 'calibrated-CAM_F",
        ),
    ],
)
def test_what_objects_need_of_the_tables(world: ConversionSettings, table: str, change: Any, message: str) -> None:
    edit(world.dataroot, table, change)
    with pytest.raises(TableError, match=message):
        convert(world)
    convert(replace(world, objects=False))


def test_smaller_copies_of_the_images_are_noticed(world: ConversionSettings) -> None:
    convert(world)
    for sample in read_samples(world.out):
        for name in sample.images.values():
            (world.dataroot / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (100, 80)).save(world.dataroot / name)
    convert(world)
    assert not check_set(world.out, world.dataroot).faults
    for name in read_samples(world.out)[0].images.values():
        Image.new("RGB", (50, 40)).save(world.dataroot / name)
    faults = check_set(world.out, world.dataroot).faults
    assert any("leads out of" in fault and "50 x 40 pixels" in fault for fault in faults)
    with pytest.raises(TableError, match="has 50 x 40 pixels, not 100 x 80"):
        convert(world)
    convert(replace(world, objects=False))
