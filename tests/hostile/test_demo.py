"""Hostile settings and folders of `tools/make_demo.py`: one line, before anything is rendered or trained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.hostile import fifo, refused
from tools.demo.training import driver
from tools.demo.training.checkpoints import save_checkpoint
from tools.demo.training.driver import run_identity
from tools.demo.training.pictures import TrainingScenes
from tools.demo.training.recipe import Recipe
from tools.make_demo import main


@pytest.fixture(autouse=True)
def _nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not refused would render for minutes and train for hours."""

    def rendered(self: TrainingScenes, *_: object) -> None:
        raise AssertionError("pictures were rendered")

    monkeypatch.setattr(TrainingScenes, "prepare", rendered)


@pytest.mark.parametrize(
    ("setting", "mention"),
    [
        ("num_scenes=-1", "num_scenes"),
        ("num_scenes=0", "num_scenes"),
        ("num_scenes=1e9", "not a whole number"),
        ("num_scenes=999999999999", "num_scenes"),
        ("num_scenes=" + "9" * 5000, "not a whole number"),
        ("num_scenes", "not a whole number"),
        ("=3", "unknown number"),
        ("num_scene=3", "num_scenes"),
        ("betas=1", "unknown number"),
        ("\udcff=1", "unknown number"),
        ("clip=nan", "clip"),
        ("answer_lr=inf", "answer_lr"),
        ("answer_lr=-0.001", "answer_lr"),
        ("connector_lr=1e308", "connector_lr"),
        ("weight_decay=nan", "weight_decay"),
        ("answer_epochs=-1", "answer_epochs"),
        ("answer_epochs=1e300", "answer_epochs"),
        ("seed=-1", "seed"),
        ("world_seed=-1", "world_seed"),
        ("layers=0", "layers"),
        ("layers=1000000000", "layers"),
        ("heads=0", "heads"),
        ("heads=7", "width"),
        ("width=130", "width"),
        ("image_size=225", "image_size"),
        ("image_size=1000006", "image_size"),
        ("num_view_tokens=0", "num_view_tokens"),
        ("vision_layers=1", "vision_layers"),
        ("perception=18", "perception"),
        ("long_plans=0", "long_plans"),
        ("stretched=1.5", "stretched"),
        ("least_stretch=1", "least_stretch"),
        ("most_stretch=710", "most_stretch"),
        ("checkpoint_every=0", "checkpoint_every"),
        ("warm_up=0", "warm_up"),
    ],
)
def test_settings(
    setting: str,
    mention: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["train", "--work", tmp_path / "work", "--out", tmp_path / "out", "--set", setting]
    refused(capsys, monkeypatch, main, command, mention)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("threads", ["0", "-2", "100000", "many", "1.5", "nan"])
def test_threads(
    threads: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["train", f"--threads={threads}", "--work", tmp_path / "work", "--out", tmp_path / "out"]
    refused(capsys, monkeypatch, main, command, "--threads")


@pytest.mark.parametrize("what", ["world", "train", "all"])
@pytest.mark.parametrize("place", ["a file/below", "name of 300 bytes", "nul"])
def test_output_that_cannot_be_written(
    what: str,
    place: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "a file").write_text("kept")
    out = tmp_path / {"name of 300 bytes": "x" * 300, "nul": "a\0b"}.get(place, place)
    refused(capsys, monkeypatch, main, [what, "--work", tmp_path / "work", "--out", out], "cannot be written")
    assert (tmp_path / "a file").read_text() == "kept"


def test_work_folder_that_is_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").write_text("kept")
    command = ["train", "--work", tmp_path / "work", "--out", tmp_path / "out"]
    refused(capsys, monkeypatch, main, command, "cannot be written", "work")
    assert (tmp_path / "work").read_text() == "kept"


@pytest.mark.parametrize("kind", ["text", "foreign", "fifo", "folder", "other recipe", "other library", "bad identity"])
def test_checkpoint_that_is_not_this_run_s(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, steps = tmp_path / "work" / "answers.safetensors", {"steps": torch.tensor(1280)}
    path.parent.mkdir()
    mention = "not a training checkpoint"
    if kind == "text":
        path.write_text("not tensors")
    elif kind == "foreign":
        save_file(steps, path)
    elif kind == "fifo":
        fifo(path)
        mention = "no ordinary file"
    elif kind == "folder":
        path.mkdir()
        mention = "a folder stands there"
    elif kind == "other recipe":
        save_checkpoint(path, steps, run_identity(Recipe(num_scenes=12)))
        mention = "num_scenes was 12, is 20480"
    elif kind == "other library":
        save_checkpoint(path, steps, run_identity(Recipe()) | {"torch": "1.0"})
        mention = "torch was 1.0"
    else:
        save_file(steps, path, {"identity": "[" * 100_000})
        mention = "not JSON"
    command = ["train", "--work", path.parent, "--out", tmp_path / "out"]
    refused(capsys, monkeypatch, main, command, "answers.safetensors", mention)


def test_checkpoint_of_this_very_run_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusals above are not for everything: the run's own checkpoint passes, and pictures come next."""
    monkeypatch.setattr(driver, "new_driver", lambda recipe: (torch.nn.Linear(1, 1), None))
    save_checkpoint(tmp_path / "work" / "answers.safetensors", {"steps": torch.tensor(1)}, run_identity(Recipe()))
    with pytest.raises(AssertionError, match="pictures were rendered"):
        main(["train", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")])


def test_missing_library(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    refused(capsys, monkeypatch, main, ["world", "--out", tmp_path / "out"], "OpenCV", "pip install")
