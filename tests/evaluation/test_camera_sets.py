"""Other cameras than nuScenes' six: a checkpoint that names its own, and refusals where names or numbers differ."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from senna_prune.commands import rerun_export
from senna_prune.config import EvaluationConfig, load_config
from senna_prune.errors import CheckpointError, InputError, SampleError, SennaPruneError
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.report.kept_tokens import write_kept_tokens
from senna_prune.evaluation.report.show import camera_table
from senna_prune.evaluation.report.write import write_report
from senna_prune.evaluation.run.planning_set import planning_set
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.evaluation.run.senna_system import SennaSystem
from senna_prune.model import SennaConfig
from senna_prune.nuscenes.set_check import check_set
from senna_prune.planner.planner import Planner
from senna_prune.task.labels import CAMERAS, PLANS, VIEW_LABELS, Convention, plan_text, view_label
from senna_prune.task.prompts import planning_question
from senna_prune.task.sample import PlanningSample, read_samples, write_samples
from tests.commands.test_rerun_export import Recording, stand_in
from tests.evaluation.checkpoint import write_checkpoint
from tests.fakes import tiny_senna, tiny_views

FLEET = ("windscreen", "left_mirror", "right_mirror", "tailgate")
LABELS = ("windscreen", "left mirror", "right mirror", "tailgate")


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A folder with a checkpoint of four named cameras and a planning set of two keyframes."""
    model, processor = tiny_senna(num_views=4)
    model.config.cameras = list(FLEET)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    samples = []
    for number in range(2):
        images = {camera: f"{number}/{camera}.png" for camera in FLEET}
        for path, picture in zip(images.values(), tiny_views(number, 4), strict=True):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / path)
        question = planning_question(3, "go straight", LABELS)
        answer, token = plan_text(*PLANS[number]), f"t{number}"
        sample = PlanningSample(token, f"drive-{number}", number, "plan", images, question, answer, 3.0, "go straight")
        samples.append(sample)
    write_samples(tmp_path / "set.jsonl", samples)
    return tmp_path


def settings(fleet: Path, *overrides: str) -> EvaluationConfig:
    given = [f"data.planning_set={fleet}/set.jsonl", f"data.image_root={fleet}", f"model.path={fleet}/model"]
    given += [f"output={fleet}/run", "scoring.resamples=10", "readout.max_new_tokens=2", "pruning.methods=[autoprune]"]
    return load_config(EvaluationConfig, overrides=[*given, *overrides])


def rewrite(fleet: Path, **fields: Any) -> None:
    write_samples(fleet / "set.jsonl", [replace(s, **fields) for s in read_samples(fleet / "set.jsonl")])


def test_labels_of_nuscenes_cameras_are_senna_own() -> None:
    assert VIEW_LABELS == ("FRONT", "FRONT LEFT", "FRONT RIGHT", "BACK LEFT", "BACK RIGHT", "BACK")
    assert tuple(map(view_label, CAMERAS)) == VIEW_LABELS


def test_a_set_of_the_checkpoints_cameras_is_evaluated_and_reported(
    fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    config = settings(fleet)
    evaluate(config, SennaSystem(config))
    lines = RunFolder(fleet / "run").read_lines()
    assert len(lines) == 6, "two samples, unpruned, pruned and by random at the same positions"
    assert all(len(record.trace.per_view[0]) == 4 for record, _ in lines.values() if record.trace)
    page = write_report(fleet / "run", image_root=fleet).read_text(encoding="utf-8")
    assert "left mirror" in page
    assert page.count("data:image/jpeg") == 8
    assert write_kept_tokens(RunFolder(fleet / "run"), fleet) is not None
    assert camera_table(fleet / "run").columns == ("method", *LABELS)
    exported = rerun_export.export(fleet / "run", fleet)
    assert exported.is_file()
    assert [view.origin for view in Recording.blueprint.args[0].args[0].args] == [
        f"world/ego_vehicle/{c}" for c in FLEET
    ]
    kept = [path for path, _, _ in Recording.latest.logged if path.endswith("/kept")]
    assert set(kept) == {f"world/ego_vehicle/{camera}/kept" for camera in FLEET}
    check = check_set(fleet / "set.jsonl", fleet)
    assert not check.faults
    assert check.cameras == FLEET


def test_the_planner_takes_the_checkpoints_cameras(fleet: Path) -> None:
    model, processor = tiny_senna(num_views=4)
    model.config.cameras = list(FLEET)
    planner, views = Planner(model, processor), tiny_views(0, 4)
    plan = planner.plan(dict(zip(FLEET, views, strict=True)), 3.0, "go straight")
    encoded = planner.encode(views, planning_question(3, "go straight", LABELS))
    assert plan.distribution == planner.decide(encoded).distribution
    with pytest.raises(InputError, match="no image of windscreen"):
        planner.plan(dict(zip(CAMERAS, views, strict=False)), 3.0, "go straight")
    with pytest.raises(InputError, match="order 'upstream' is one of nuScenes' six"):
        Planner(model, processor, convention="upstream")
    model.config.cameras = None
    with pytest.raises(InputError, match="does not name its cameras"):
        Planner(model, processor).plan({}, 3.0, "go straight")


REFUSED: dict[str, tuple[Any, str]] = {
    "an unnamed camera": (
        lambda fleet: edit_config(fleet, cameras=["windscreen", "left_mirror", "right_mirror", "roof"]),
        "the sample's cameras are windscreen, left_mirror, right_mirror, tailgate, the checkpoint's",
    ),
    "another order": (
        lambda fleet: edit_config(fleet, cameras=list(reversed(FLEET))),
        "name them in its order",
    ),
    "no names": (lambda fleet: edit_config(fleet, cameras=None), "the checkpoint does not name its cameras"),
    "other labels": (
        lambda fleet: rewrite(fleet, question=planning_question(3, "go straight", LABELS[::-1])),
        "the question does not begin with '<windscreen VIEW>:'",
    ),
    "nuScenes' checkpoint": (
        lambda fleet: write_checkpoint(fleet / "model"),
        "the checkpoint's CAM_FRONT, CAM_FRONT_LEFT",
    ),
}


def edit_config(fleet: Path, **fields: object) -> None:
    path = fleet / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields), encoding="utf-8")


@pytest.mark.parametrize("name", REFUSED)
def test_other_cameras_are_refused_before_anything_is_decided(fleet: Path, name: str) -> None:
    spoil, message = REFUSED[name]
    spoil(fleet)
    config = settings(fleet)
    with pytest.raises(SennaPruneError, match=message):
        evaluate(config, SennaSystem(config))
    assert not (fleet / "run").exists()


def test_sets_of_several_camera_sets_and_the_upstream_order_are_refused(fleet: Path) -> None:
    with pytest.raises(SampleError, match="order 'upstream' is one of nuScenes' six cameras"):
        planning_set(settings(fleet, "data.camera_orders=[upstream]").data)
    first, second = read_samples(fleet / "set.jsonl")
    three = replace(second, images=dict(list(second.images.items())[:3]))
    three = replace(three, question=planning_question(3, "go straight", three.labels))
    write_samples(fleet / "set.jsonl", [first, three])
    with pytest.raises(SampleError, match="other cameras than sample t0/plan"):
        planning_set(settings(fleet).data)
    assert ["other cameras than before" in fault for fault in check_set(fleet / "set.jsonl").faults] == [True]
    rewrite(fleet, convention=Convention("upstream"))
    with pytest.raises(SampleError, match="order 'upstream' is one of nuScenes' six cameras"):
        read_samples(fleet / "set.jsonl")


@pytest.mark.parametrize("cameras", [["a"], ["a", "a"], ["a", ""], ["a", "<b>"], ["a", 1], "ab", {"a": 1, "b": 2}])
def test_names_that_fit_no_prompt_are_refused(cameras: object) -> None:
    with pytest.raises(CheckpointError, match="cameras does not name 2 cameras"):
        SennaConfig(num_views=2, cameras=cameras)
    assert SennaConfig(num_views=2, cameras=["a", "b"]).camera_names == ("a", "b")
    assert SennaConfig(num_views=2).camera_names == ()
    assert SennaConfig().camera_names == CAMERAS
