"""Scores by kind of question and by circumstances, by hand."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from senna_prune.config import ScoringConfig
from senna_prune.evaluation.run.records import Record
from senna_prune.evaluation.score.results import camera_of
from senna_prune.task.sample import PlanningSample
from tests.evaluation.dummy import scores_of
from tests.evaluation.scene_questions import NOBODY, SEEN
from tests.evaluation.test_kinds import CONDITIONS, MOTION


def records(kind: str, scene: str, number: int, truth: str, unpruned: str, pruned: str) -> list[Record]:
    key = f"{scene}-{number}/{kind}/0/corrected"
    return [
        Record(key, c.id, scene, "corrected", truth, a, kind=kind)
        for c, a in zip(CONDITIONS, (unpruned, pruned), strict=True)
    ]


def test_scores_and_the_mean_ratio_by_hand() -> None:
    """Plans 4 of 4 against 2 of 4; road users 2 of 4 against 1 of 4; motions 1 and 1 against 1/2 and 0."""
    plan, other = "KEEP, STRAIGHT", "STOP, STRAIGHT"
    every = [r for n in range(4) for r in records("plan", f"s{n}", 0, plan, plan, plan if n < 2 else other)]
    every += [
        r
        for n in range(4)
        for r in records("vru", f"s{n}", 0, SEEN, "Yes." if n < 2 else "No.", "Yes." if n < 1 else "No.")
    ]
    every += records("motion", "s0", 0, MOTION, MOTION, "Object 2: STOP, STRAIGHT")
    every += records("motion", "s1", 0, MOTION, MOTION, "?")
    (group,) = scores_of(every, CONDITIONS, ScoringConfig(resamples=400))["kinds"]
    rows = {row["row"]: row for row in group["rows"]}
    assert list(group["kinds"]) == ["plan", "vru", "motion"]
    assert group["kinds"]["motion"] == {"samples": 2, "scenes": 2, "failed": 0}
    scores = {name: [entry["score"] for entry in row["kinds"].values()] for name, row in rows.items()}
    assert scores == {"none": [1, 0.5, 1], "m@0.5": [0.5, 0.25, 0.25], "majority": [1, 1, 0.5]}
    assert rows["m@0.5"]["mean_ratio"] == pytest.approx((0.5 + 0.5 + 0.25) / 3)
    assert rows["none"]["mean_ratio"] == 1
    assert rows["none"]["kinds"]["plan"]["ratio_interval"] is None, "it is 1 by definition"
    low, high = rows["m@0.5"]["kinds"]["plan"]["score_interval"]
    assert low < 0.5 < high
    low, high = rows["m@0.5"]["mean_ratio_interval"]
    assert low < rows["m@0.5"]["mean_ratio"] < high
    (told,) = rows["m@0.5"]["kinds"]["plan"]["comparisons"]
    assert (told["to"], told["difference"], told["p"], told["supported"]) == ("none", -0.5, 1 / 4, False)
    motion = rows["m@0.5"]["kinds"]["motion"]
    assert motion["measures"]["accuracy"] == 0.25
    assert motion["unparsed"] == 0.5
    assert motion["cost"] is None


def test_a_kind_that_the_unpruned_model_never_answers_rightly_stays_out_of_the_mean() -> None:
    plan = "KEEP, STRAIGHT"
    every = [r for n in range(3) for r in records("plan", f"s{n}", 0, plan, plan, plan)]
    every += [r for n in range(3) for r in records("vru", f"s{n}", 0, NOBODY, "Yes.", "No.")]
    (group,) = scores_of(every, CONDITIONS, ScoringConfig(resamples=50))["kinds"]
    row = next(row for row in group["rows"] if row["row"] == "m@0.5")
    assert row["kinds"]["vru"]["ratio"] is None
    assert row["mean_ratio_kinds"] == ["plan"]
    assert row["mean_ratio"] == 1
    low, high = row["mean_ratio_interval"]
    assert low < 1 < high, "never a point"


@pytest.mark.parametrize(("policy", "samples", "score"), [("count_wrong", 2, 0.5), ("skip_reported", 1, 1.0)])
def test_unusable_pictures_count_alike_in_every_row(policy: str, samples: int, score: float) -> None:
    broken = [
        msgspec.structs.replace(record, answer=None, error={"type": "ImageError", "message": "no"})
        for record in records("vru", "s1", 0, SEEN, "", "")
    ]
    every = [*records("vru", "s0", 0, SEEN, SEEN, SEEN), *broken]
    (group,) = scores_of(every, CONDITIONS, ScoringConfig(resamples=10, on_error=policy))["kinds"]
    assert group["kinds"]["vru"] == {"samples": samples, "scenes": samples, "failed": 1}
    assert {row["kinds"]["vru"]["score"] for row in group["rows"]} == {score}


def test_breakdowns_by_hand() -> None:
    plan = "KEEP, STRAIGHT"
    drives = [
        ("s0", 0.0, "Night, rain"),
        ("s1", 1.9, "night"),
        ("s2", 2.0, "After rain"),
        ("s3", 20.0, "Training ground"),
    ]
    every, samples = [], []
    for scene, speed, description in drives:
        every += records("plan", scene, 0, plan, plan, plan if speed < 2 else "STOP, STRAIGHT")
        images: dict[str, str] = {}
        sample = PlanningSample(f"{scene}-0", scene, 0, "plan", images, "?", plan, speed, "go straight")
        samples.append(replace(sample, description=description))
    found = scores_of(every, CONDITIONS, ScoringConfig(resamples=50), samples)["breakdowns"]
    table = {(e["facet"], e["value"]): (e["samples"], e["rows"]["m@0.5"]["score"]) for e in found}
    assert table == {
        ("speed", "0 to 2 m/s"): (2, 1),
        ("speed", "2 to 5 m/s"): (1, 0),
        ("speed", "from 15 m/s"): (1, 0),
        ("time of day", "night"): (2, 1),
        ("time of day", "day"): (2, 0),
        ("weather", "rain"): (2, 0.5),
        ("weather", "no rain"): (2, 0.5),
    }
    one_scene = next(e for e in found if e["value"] == "from 15 m/s")
    assert one_scene["rows"]["m@0.5"]["score_interval"] is None


def test_cameras_are_read_from_the_question() -> None:
    sample = PlanningSample("t", "s", 0, "motion", {}, "the objects in the back left view image. Please", "")
    assert camera_of(sample) == "back left"
    assert camera_of(replace(sample, question="What next?")) == "unnamed"
