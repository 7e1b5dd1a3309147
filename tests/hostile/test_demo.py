"""Hostile settings and folders of `tools/make_demo.py`: one line, before anything is rendered or trained."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.hostile import fifo
from tests.hostile.conftest import Refuse
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
}


@pytest.fixture(autouse=True)
def _nothing_is_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is not refused would render for minutes and train for hours."""

    def rendered(self: TrainingScenes, *_: object) -> None:
        raise AssertionError("images were rendered")

    monkeypatch.setattr(TrainingScenes, "prepare", rendered)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str, refuse: Refuse) -> None:
    Path("FILE").write_text("kept")
    words, mention = CASES[case]
    refuse(main, ["--out=out", "--work=work", *words], mention)
    assert Path("FILE").read_text() == "kept"
    assert [path for path in Path().rglob("*") if path.is_file()] == [Path("FILE")]


def test_missing_library(refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    refuse(main, ["world", "--out=out"], "OpenCV", "pip install")


STEPS, OURS = {"steps": torch.tensor(9)}, run_identity(Recipe(), "answers")
CHECKPOINTS: dict[str, Callable[[Path], object]] = {
    "not a training checkpoint": lambda path: path.write_text("not tensors"),
    "not a training checkpoint.": lambda path: save_file(STEPS, path),
    "no ordinary file": fifo,
    "a folder stands there": Path.mkdir,
    "num_scenes was 12, is 6144": lambda path: save_checkpoint(path, STEPS, OURS | {"num_scenes": 12}),
    "torch was 1.0": lambda path: save_checkpoint(path, STEPS, OURS | {"torch": "1.0"}),
    "not JSON": lambda path: save_file(STEPS, path, {"identity": "[" * 100_000}),
}


@pytest.mark.parametrize("mention", CHECKPOINTS)
def test_checkpoints(mention: str, refuse: Refuse) -> None:
    Path("work").mkdir()
    CHECKPOINTS[mention](Path("work/answers.safetensors"))
    command = ["train", "--work=work", "--out=out"]
    refuse(main, command, "answers.safetensors", mention)
    save_checkpoint(Path("other/answers.safetensors"), STEPS, OURS)  # the run's own passes, and images come next
    with pytest.raises(AssertionError, match="images were rendered"):
        main(["train", "--work=other", "--out=out"])
