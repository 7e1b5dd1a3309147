"""Lift and lost objects by hand, and random within its interval of 1."""

from __future__ import annotations

import numpy as np
import pytest

from senna_prune.errors import RunError
from senna_prune.evaluation.audit.dropped import dropped_objects, kind_of, leading
from senna_prune.evaluation.audit.survival import Survival
from senna_prune.evaluation.report import objects
from senna_prune.evaluation.report.table import to_csv
from senna_prune.task.labels import CAMERAS
from senna_prune.task.objects import SeenObject
from senna_prune.task.prompts import planning_question
from senna_prune.task.sample import PlanningSample


def sample(token: str, scene: str, *seen: SeenObject) -> PlanningSample:
    images = dict.fromkeys(CAMERAS, "a.jpg")
    question = planning_question(3, "go straight")
    return PlanningSample(token, scene, 0, "plan", images, question, "KEEP, STRAIGHT", objects=seen)


def thing(name: str, distance: float | None, on_path: bool | None = None) -> SeenObject:
    return SeenObject(name, {"CAM_FRONT": (0.0, 0.0, 9.0, 9.0)}, distance, on_path=on_path)


ONE = sample("a", "s1", thing("pedestrian", 8.0), thing("car", 40.0, True), thing("car", 12.0, True))
TWO = sample("b", "s2", thing("pedestrian", 25.0), thing("traffic_cone", None))


def survival(*objects: tuple[int, ...], tokens: tuple[int, ...] = (100, 50, 25, 25)) -> Survival:
    return Survival((6, 12, 23), tokens, objects)


def test_lift_and_loss_by_hand() -> None:
    lines = [
        # Tokens that see it, and those that enter layers 6, 12 and 23.
        ("m@0.3", ONE.key, survival((4, 4, 2, 0), (10, 5, 0, 0), (5, 5, 0, 0))),
        ("m@0.3", TWO.key, survival((2, 1, 0, 0), (0, 0, 0, 0))),
    ]
    found = dropped_objects(lines, [ONE, TWO], resamples=200)
    assert found is not None
    assert (found["layers"], found["half"]) == ([6, 12, 23], 12)
    assert (found["samples"], found["scenes"], found["objects"]) == (2, 2, 4)  # nothing sees the cone
    (row,) = found["rows"]
    walkers = row["layer"]["pedestrian"]
    # Survival 1 and .5 over .5; .5 and 0 over .25; 0.
    assert [entry["value"] for entry in walkers] == pytest.approx([1.5, 1.0, 0.0])
    assert [entry["survival"] for entry in walkers] == pytest.approx([0.75, 0.25, 0.0])
    assert walkers[1]["interval"] == pytest.approx((0.0, 2.0))  # either scene alone: 0 / .25 and .5 / .25
    assert row["layer"]["car"][0]["value"] == pytest.approx(0.75 / 0.5)
    assert row["layer"]["car"][0]["interval"] is None  # of one scene
    assert row["distance"]["pedestrian"]["0 to 10 m"]["value"] == pytest.approx(2.0)
    assert row["distance"]["car"]["30 to 50 m"]["value"] == 0
    assert row["overview"]["all objects"]["value"] == pytest.approx(0.5 / 4 / 0.25)
    assert row["overview"]["lead vehicles"]["objects"] == 1
    assert "traffic_cone" not in row["layer"]
    # Lost at layer 12 within 30 m: one of two pedestrians; the lead vehicle at 12 m, not the car at 40 m.
    assert {kind: entry["value"] for kind, entry in row["lost"].items()} == {"pedestrians": 0.5, "lead vehicles": 1.0}
    assert row["worst"] == [{"sample": TWO.key, "lost": 1, "of": 1}, {"sample": ONE.key, "lost": 1, "of": 2}]


def test_seeds_are_no_more_objects() -> None:
    line = ("m", ONE.key, survival((4, 4, 4, 4), (10, 5, 5, 5), (5, 5, 5, 5)))
    found = dropped_objects([line, line], [ONE], resamples=20)
    assert found is not None
    assert found["rows"][0]["layer"]["car"][0]["objects"] == 2


def test_random_is_within_its_interval_of_one() -> None:
    draw = np.random.default_rng(1)
    samples = [sample(str(n), f"s{n % 20}", *[thing("pedestrian", 9.0)] * 4) for n in range(80)]
    lines = []
    for one in samples:
        kept = draw.permutation(200) < 50
        seen = [kept[draw.choice(200, 12, replace=False)].sum() for _ in range(4)]
        lines.append(("r", one.key, Survival((0,), (200, 50), tuple((12, int(n)) for n in seen))))
    found = dropped_objects(lines, samples, resamples=500)
    assert found is not None
    low, high = found["rows"][0]["overview"]["all objects"]["interval"]
    assert low < 1 < high
    assert high - low < 0.2


def test_other_objects_than_the_planning_sets_are_refused() -> None:
    with pytest.raises(RunError, match=r"tells 1 objects at layers.*3 are there"):
        dropped_objects([("m", ONE.key, survival((4, 4, 2, 0)))], [ONE], 20)
    assert dropped_objects([], [ONE], 20) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("pedestrian", "pedestrians"),
        ("human.pedestrian.police_officer", "pedestrians"),
        ("bicycle", "cyclists"),
        ("motorcycle", "cyclists"),
        ("Cyclist", "cyclists"),
        ("static_object.bicycle_rack", "others"),
        ("vehicle.emergency.ambulance", "vehicles"),
        ("car", "vehicles"),
        ("traffic_cone", "others"),
    ],
)
def test_kinds(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_the_lead_vehicle_is_the_nearest_in_the_way() -> None:
    assert leading(ONE.objects or ()) == 2
    assert leading([thing("car", 5.0), thing("pedestrian", 3.0, True), thing("car", None, True)]) is None


def test_tables() -> None:
    lines = [("m@0.3", ONE.key, survival((4, 4, 2, 0), (10, 5, 0, 0), (5, 5, 0, 0)))]
    lines.append(("m@0.3", TWO.key, survival((2, 1, 0, 0), (0, 0, 0, 0))))
    dropped = dropped_objects(lines, [ONE, TWO], resamples=200)
    assert dropped is not None
    (row,) = objects.overview(dropped).rows
    assert row["pedestrians"] == "1.00 [0.00, 2.00]"
    assert row["lost lead vehicles %"] == "100.0"
    assert (
        "others" not in objects.overview(dropped).columns and "lost cyclists %" not in objects.overview(dropped).columns
    )
    assert objects.overview(dropped, intervals=False).rows[0]["pedestrians"] == "1.00"
    assert [line["layer 12"] for line in objects.by_layer(dropped).rows] == ["1.00 [0.00, 2.00]", "0.00"]
    assert objects.by_distance(dropped).rows[1]["30 to 50 m"] == "0.00"
    assert objects.counts(dropped) == "4 objects of 2 samples in 2 scenes; half the depth is layer 12"
    assert "m@0.3,lift,pedestrian,12,0 to 10 m,1,2.0" in to_csv(objects.numbers(dropped))
