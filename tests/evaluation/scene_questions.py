"""A planning set for the dummy system in which every keyframe is also asked about road users and motions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from senna_prune.task.labels import PLANS, plan_text
from senna_prune.task.sample import PlanningSample, read_samples, write_samples
from tests.evaluation.dummy import draw, make_planning_set

HEAD = "".join(f"<{n}>:\n<image>\n" for n in range(6))
SEEN = "Yes, I see a pedestrian located 12 meters ahead of me and 7 meters to the right."
NOBODY = "No, I don't see any vulnerable road users ahead of me, such as bicycles, motorcycles, or pedestrians."
VIEWS = ("front", "back left")


def make_scene_set(folder: Path, scenes: int = 4, per_scene: int = 3) -> Path:
    """Per keyframe a plan, a road-user question and two motion questions; half of the scenes are at night."""
    make_planning_set(folder, scenes, per_scene)
    samples: list[PlanningSample] = []
    for sample in read_samples(folder / "set.jsonl"):
        night = int(sample.scene[-1]) % 2
        plan = replace(
            sample, description="Night, rain" if night else "Parked cars", speed=9.0 * draw(sample.token, "v")
        )
        bare = replace(plan, speed=None, command=None)
        vru = replace(bare, kind="vru", question=f"{HEAD}Anybody?", answer=SEEN if draw(sample.token) < 0.4 else NOBODY)
        samples += [vru, *(_motion(bare, number) for number in range(len(VIEWS))), plan]
    write_samples(folder / "set.jsonl", samples)
    return folder / "set.jsonl"


def _motion(sample: PlanningSample, number: int) -> PlanningSample:
    question = f"{HEAD}These objects are in the {VIEWS[number]} view image. What will they do?"
    plans = [PLANS[int(6 * draw(sample.token, number, n))] for n in range(2)]
    answer = "".join(f"Object {n}: {plan_text(*plan)}\n" for n, plan in enumerate(plans, start=1))
    return replace(sample, kind="motion", index=number, question=question, answer=answer)
