"""Hostile settings and folders of `tools/make_demo.py`: one line, before anything is rendered or trained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.hostile import fifo, refused
from tools.demo.training.checkpoints import save_checkpoint
from tools.demo.training.driver import run_identity
from tools.demo.training.pictures import TrainingScenes
from tools.demo.training.recipe import Recipe
from tools.make_demo import main

SETTINGS = """num_scenes=-1 num_scenes=0 num_scenes=1e9 num_scenes=999999999999999999999 num_scenes clip=nan seed=-1
answer_lr=inf answer_lr=-0.001 tower_lr=1e308 weight_decay=nan answer_steps=-1 tower_steps=1e300 world_seed=-1 layers=0
layers=1000000000 heads=0 image_size=225 image_size=238 image_size=1000006 vision_layers=1 num_view_tokens=0
perception=18 long_plans=0 stretched=1.5 least_stretch=1 most_stretch=710 checkpoint_every=0
warm_up=2 width=130 vision_width=130"""
THREADS = "0 -2 100000 many 1.5 nan"
OUTPUTS = ("FILE/below", "x" * 300, "a\0b")
CASES: dict[str, tuple[list[str], str]] = {
    **{text: (["train", "--set", text], text.partition("=")[0]) for text in SETTINGS.split()},
    **{text: (["train", "--set", text], "unknown number") for text in ("=3", "betas=1", "\udcff=1")},
    "misspelt": (["train", "--set", "num_scene=3"], "num_scenes"),
    "heads": (["train", "--set", "heads=7"], "width"),
    **{f"{text} threads": (["train", f"--threads={text}"], "--threads") for text in THREADS.split()},
    **{f"world {out[:9]!r}": (["world", "--out", out], "cannot be written") for out in OUTPUTS},
    **{f"train {out[:9]!r}": (["train", "--out", out], "cannot be written") for out in OUTPUTS},
    "work is a file": (["train", "--work", "FILE"], "cannot be written"),
    "a run without complexity": (["train", "--run", "RUN"], "--run"),
    "complexity without a run": (["complexity"], "--run"),
    "complexity of no bundle": (["complexity", "--run", "RUN"], "training.json"),
}


@pytest.fixture(autouse=True)
def _nothing_is_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is not refused would render for minutes and train for hours."""

    def rendered(self: TrainingScenes, *_: object) -> None:
        raise AssertionError("pictures were rendered")

    monkeypatch.setattr(TrainingScenes, "prepare", rendered)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("FILE").write_text("kept")
    words, mention = CASES[case]
    refused(capsys, monkeypatch, main, ["--out=out", "--work=work", *words], mention)
    assert Path("FILE").read_text() == "kept"
    assert [path for path in Path().rglob("*") if path.is_file()] == [Path("FILE")]


def test_missing_library(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    refused(capsys, monkeypatch, main, ["world", "--out=out"], "OpenCV", "pip install")


@pytest.mark.parametrize("kind", ["text", "foreign", "fifo", "folder", "recipe", "library", "identity"])
def test_checkpoint_of_something_else(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, steps, ours = Path("work/answers.safetensors"), {"steps": torch.tensor(9)}, run_identity(Recipe(), "answers")
    path.parent.mkdir()
    write, mention = {
        "text": (lambda: path.write_text("not tensors"), "not a training checkpoint"),
        "foreign": (lambda: save_file(steps, path), "not a training checkpoint"),
        "fifo": (lambda: fifo(path), "no ordinary file"),
        "folder": (path.mkdir, "a folder stands there"),
        "recipe": (lambda: save_checkpoint(path, steps, ours | {"num_scenes": 12}), "num_scenes was 12, is 6144"),
        "library": (lambda: save_checkpoint(path, steps, ours | {"torch": "1.0"}), "torch was 1.0"),
        "identity": (lambda: save_file(steps, path, {"identity": "[" * 100_000}), "not JSON"),
    }[kind]
    write()
    command = ["train", "--work=work", "--out=out"]
    refused(capsys, monkeypatch, main, command, "answers.safetensors", mention)
    path.unlink() if path.is_file() or kind == "fifo" else path.rmdir()
    save_checkpoint(path, steps, ours)  # the run's own checkpoint passes, and pictures come next
    with pytest.raises(AssertionError, match="pictures were rendered"):
        main(command)
