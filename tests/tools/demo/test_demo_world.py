"""The demo world: its rule, its images, its drives and its tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from enum import Enum
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest

from senna_prune.nuscenes.behaviour import path_labels, speed_labels
from senna_prune.task.labels import CORRECTED, Command, Path, Speed, plan_text
from senna_prune.task.prompts import IMAGE_PROMPT
from senna_prune.task.sample import read_samples
from tools.demo.world.annotation import scene_questions
from tools.demo.world.bundle import make_bundle_world
from tools.demo.world.layout import KERB, PERSON_METRES, lay_out
from tools.demo.world.rendering import render
from tools.demo.world.rig import HEIGHT, RIG, WIDTH
from tools.demo.world.rollout import RENDERED, read_plan, read_speed
from tools.demo.world.sampling import PLAN_WEIGHTS, sample_question, sample_street
from tools.demo.world.scenes import hidden_evidence, make_scene, scene_rng
from tools.demo.world.street import Side, Street, expert_plan, mirror_street
from tools.demo.world.writing import VERSION, write_world

CITY, HIGHWAY = Street("city"), Street("highway")
BEHIND, FRONT = Side(vehicle="behind"), Side(vehicle="front")
STRAIGHT, LEFT, RIGHT = Command.STRAIGHT, Command.LEFT, Command.RIGHT
RULE: list[tuple[Street, float, Command, str]] = [
    (CITY, 8.0, STRAIGHT, "ACCELERATE, STRAIGHT"),
    (replace(CITY, ahead="following"), 8.0, STRAIGHT, "KEEP, STRAIGHT"),
    (replace(CITY, ahead="following", signal="left"), 8.0, STRAIGHT, "KEEP, STRAIGHT"),
    (replace(CITY, light="red"), 8.0, STRAIGHT, "DECELERATE, STRAIGHT"),
    (replace(CITY, light="red"), 0.5, LEFT, "STOP, STRAIGHT"),
    (replace(CITY, light="green"), 0.5, STRAIGHT, "ACCELERATE, STRAIGHT"),
    (replace(CITY, ambulance=True), 6.0, STRAIGHT, "DECELERATE, STRAIGHT"),
    (replace(CITY, left=Side(street=True)), 6.0, LEFT, "ACCELERATE, LEFT_TURN"),
    (replace(CITY, left=Side(street=True)), 6.0, RIGHT, "ACCELERATE, STRAIGHT"),
    (replace(CITY, right=Side(True, True)), 6.0, RIGHT, "DECELERATE, RIGHT_TURN"),
    (replace(CITY, right=Side(True, False, "behind")), 6.0, RIGHT, "DECELERATE, STRAIGHT"),
    (replace(HIGHWAY, ahead="truck", left=BEHIND), 20.0, STRAIGHT, "KEEP, RIGHT_CHANGE"),
    (replace(HIGHWAY, ambulance=True, right=FRONT), 20.0, STRAIGHT, "ACCELERATE, LEFT_CHANGE"),
    (replace(HIGHWAY, ahead="barrier", left=FRONT, right=BEHIND), 20.0, STRAIGHT, "DECELERATE, STRAIGHT"),
]


@pytest.mark.parametrize(("street", "speed", "command", "plan"), RULE)
def test_expert_rule(street: Street, speed: float, command: Command, plan: str) -> None:
    assert plan_text(*expert_plan(street, speed, command)) == plan


def mirrored(one: Enum) -> Any:
    """A command or a path in a mirror."""
    swap = {"LEFT": "RIGHT", "RIGHT": "LEFT"}
    return type(one)["_".join(swap.get(word, word) for word in one.name.split("_"))]


def test_expert_is_mirror_symmetric() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        street = sample_street(rng)
        speed, command = sample_question(rng, street)
        pace, path = expert_plan(street, speed, command)
        assert expert_plan(mirror_street(street), speed, mirrored(command)) == (pace, mirrored(path))


def test_no_cause_is_rare() -> None:
    rng = np.random.default_rng(1)
    streets = [sample_street(rng) for _ in range(2000)]
    causes = Counter()
    for street in streets:
        causes.update({f"light {street.light}": 1, f"ahead {street.ahead}": 1, f"road {street.road}": 1})
        causes.update({"pedestrian": street.pedestrian, "ambulance": street.ambulance})
        causes.update({"side street": street.left.street, "crossing": street.left.pedestrian})
        causes.update({f"vehicle {street.left.vehicle}": 1, f"signal {street.signal}": 1})
    assert min(causes.values()) / len(streets) > 0.06, causes


def test_majority_and_blind_guesses_are_poor() -> None:
    """What can be guessed from speed and command alone, by the best rule there is."""
    scenes = [make_scene(scene_rng(7, number)).situation for number in range(250)]
    plans = Counter(situation.plan for situation in scenes)
    assert max(plans.values()) / len(scenes) <= 0.35
    assert set(plans) == set(PLAN_WEIGHTS)
    by_question: dict[tuple[bool, Command], Counter] = {}
    for situation in scenes:
        by_question.setdefault((situation.speed < 2, situation.command), Counter())[situation.plan] += 1
    assert sum(max(counts.values()) for counts in by_question.values()) / len(scenes) <= 0.5


def test_drives_show_what_the_expert_means_and_pictures_show_why() -> None:
    scenes = [make_scene(scene_rng(8, number)) for number in range(60)]
    for scene in scenes:
        situation = scene.situation
        assert read_plan(scene.poses) == situation.plan
        assert read_speed(scene.poses) == int(situation.speed)
        assert not scene.poses[RENDERED].any()
    layouts = [scene.layout for scene in scenes]
    assert {channel for layout in layouts for channel in layout.evidence.values()} == {camera.channel for camera in RIG}
    assert not any(map(hidden_evidence, layouts))
    layouts = [layout for layout in layouts if "left.street" in layout.evidence]
    layouts[0].mesh.ground((-9.0, 90.0), (-90.0, 90.0), (0, 0, 0), layouts[0].mesh.new_group(flat=True))
    assert "left.street" in hidden_evidence(layouts[0])


def test_pictures_change_with_what_decides() -> None:
    """Same decoration, another light: the front image differs, the back one does not."""
    red, green = (lay_out(replace(CITY, light=light), np.random.default_rng(3)) for light in ("red", "green"))
    (red_pictures, groups), (green_pictures, _) = (render(layout.mesh, layout.light) for layout in (red, green))
    assert red_pictures.shape == (6, HEIGHT, WIDTH, 3)
    changed = (red_pictures[0] != green_pictures[0]).any(axis=-1)
    assert changed.any()
    assert {red.mesh.names[group] for group in np.unique(groups[0][changed])} <= {"light", ""}
    assert (red_pictures[5] == green_pictures[5]).all()


def test_things_do_what_their_lamps_say() -> None:
    """Brake lamps, beacons and orange lamps are the evidence of the motion answers, by the converter's own labels."""
    found = Counter()
    for number in range(300):
        street = make_scene(scene_rng(10, number)).situation.street
        layout = lay_out(street, np.random.default_rng(number))
        futures = np.stack([thing.motion.poses() for thing in layout.things]) if layout.things else np.zeros((0, 7, 3))
        # seen from the object as the labels do: x to its right, y forward, from the lidar it would carry
        seen = np.stack([-futures[:, 1:, 1], futures[:, 1:, 0]], axis=-1).astype(np.float32)
        for thing, pace, path in zip(layout.things, speed_labels(seen), path_labels(seen), strict=True):
            car, aside = thing.category == "vehicle.car" and thing.centre[0] > 10, abs(thing.centre[1])
            if car and aside < 1 and street.ahead == "braking":
                assert (pace, path) == (Speed.DECELERATE, Path.STRAIGHT)
            elif car and aside < 1 and street.signal != "none":
                kind = "TURN" if street.road == "city" else "CHANGE"
                assert (pace, path) == (Speed.KEEP, Path(f"{street.signal.upper()}_{kind}"))
            elif car and aside > 1:
                assert (pace, path) in ((Speed.KEEP, Path.STRAIGHT), (Speed.DECELERATE, Path.STRAIGHT))
            elif thing.category == "vehicle.emergency.ambulance":
                assert (pace, path) == (Speed.ACCELERATE, Path.STRAIGHT)
            else:
                standing = thing.category.startswith(("human", "movable")) or aside > KERB
                assert (pace, path) == (Speed.STOP if standing else Speed.KEEP, Path.STRAIGHT)
            found[pace, path] += 1
    assert len(found) == 8, found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    folder = tmp_path_factory.mktemp("world")
    assert make_bundle_world(folder, num_scenes=24) == 24
    return folder


def test_world_is_deterministic(world: FilePath, tmp_path: FilePath) -> None:
    make_bundle_world(tmp_path, num_scenes=24)
    one, other = ({path.relative_to(root): path.read_bytes() for path in files(root)} for root in (world, tmp_path))
    assert one == other
    write_world(tmp_path / "two", 2, 1)  # more scenes do not change the first
    name = "samples/CAM_FRONT/demo-0001__CAM_FRONT.jpg"
    assert (tmp_path / "two" / name).read_bytes() == (world / name).read_bytes()


def files(root: FilePath) -> list[FilePath]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_people_stand_at_few_distances() -> None:
    """The road-user answers are learnt from few examples, so they name few places; every place is frequent."""
    answers = Counter(
        scene_questions(make_scene(scene_rng(11, number)).layout.things)[0][0].answer for number in range(150)
    )
    people = Counter(part for text, count in answers.items() for part in text.split(" a ")[1:] for _ in range(count))
    metres = {int(part.split(" meters ahead")[0].split()[-1]) for part in people}
    assert metres == set(PERSON_METRES)
    assert 0.25 < sum(count for text, count in answers.items() if text.startswith("Yes")) / 150 < 0.7


def test_converter_reads_the_expert_back(world: FilePath) -> None:
    samples = read_samples(world / "planning_set.jsonl", "plan")
    assert len(samples) == 24
    for number, sample in enumerate(samples):
        situation = make_scene(scene_rng(1, number)).situation
        assert sample.answer.strip() == plan_text(*situation.plan)
        assert (sample.command, sample.speed) == (situation.command.value, int(situation.speed))
        assert sample.convention == CORRECTED
        assert all((world / path).is_file() for path in sample.view_paths())


def test_training_asks_what_the_converter_asks(world: FilePath) -> None:
    """Road-user and motion questions of training scenes are made by the converter's functions, without its tables."""
    samples = read_samples(world / "planning_set.jsonl")
    for number in range(24):
        road_users, motions = scene_questions(make_scene(scene_rng(1, number)).layout.things)
        converted = [one for one in samples if one.scene == f"demo-{number:04d}" and one.kind != "plan"]
        assert [(one.question, one.answer) for one in converted] == [
            (IMAGE_PROMPT + one.question, one.answer) for one in [*road_users, *motions]
        ]


def test_stock_devkit_opens_and_draws(world: FilePath, tmp_path: FilePath) -> None:
    """It projects every pedestrian ahead into the front camera near where the image shows somebody."""
    import matplotlib

    matplotlib.use("Agg")
    from nuscenes.nuscenes import NuScenes
    from nuscenes.utils.geometry_utils import view_points

    tables = NuScenes(version=VERSION, dataroot=str(world), verbose=False)
    assert len(tables.scene) == 24
    boxed = next(sample for sample in tables.sample if sample["anns"])
    tables.render_sample(boxed["token"], out_path=str(tmp_path / "drawn.png"), verbose=False)
    assert (tmp_path / "drawn.png").stat().st_size > 10_000
    checked = 0
    for number in range(24):
        sample = tables.get("sample", f"s{number:04d}k{RENDERED:02d}")
        _, boxes, intrinsic = tables.get_sample_data(sample["data"]["CAM_FRONT"])
        columns = [float(view_points(box.center[:, None], intrinsic, normalize=True)[0, 0]) for box in boxes]
        for thing in make_scene(scene_rng(1, number)).layout.things:
            ahead, left, _ = thing.centre
            if ahead > 5 and abs(left) < 2:
                expected = WIDTH / 2 - 177.2 * left / (ahead - 1.7)
                assert min(abs(column - expected) for column in columns) < 0.5
                checked += 1
    assert checked > 3
