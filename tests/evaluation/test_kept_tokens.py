"""The figure of kept tokens: which sample and layers it shows, and how bright it draws what is left."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.report.kept_tokens import (
    FILE,
    TokenMasks,
    brightness,
    choose,
    early_middle_late,
    write_kept_tokens,
)
from senna_prune.evaluation.run.run_folder import RunFolder
from tests.evaluation.dummy import DummySystem, make_planning_set


def finished_run(work: Path, *overrides: str) -> RunFolder:
    """A dummy run whose images are real ones."""
    make_planning_set(work / "data", scenes=3, per_scene=2)
    settings = [f"data.planning_set={work}/data/set.jsonl", f"data.image_root={work}/data", f"output={work}/run"]
    config = load_config(EvaluationConfig, overrides=[*settings, "scoring.resamples=50", *overrides])
    evaluate(config, DummySystem(config))
    for path in (work / "data" / "images").iterdir():
        Image.new("RGB", (160, 90), (80, 120, 160)).save(path)
    return RunFolder(work / "run")


def test_picture_of_a_run(tmp_path: Path) -> None:
    folder = finished_run(tmp_path, "pruning.methods=[none,random,autoprune]", "kept_samples=3")
    path = write_kept_tokens(folder, tmp_path / "data")
    assert path == folder.path / FILE
    with Image.open(path) as picture:
        assert picture.width > picture.height > 300


def test_autoprune_is_preferred_and_a_right_answer(tmp_path: Path) -> None:
    folder = finished_run(tmp_path, "pruning.methods=[none,random,autoprune]", "kept_samples=6")
    info, lines, samples = folder.read_info(), folder.read_lines(), folder.read_samples()
    found = choose(samples, lines, info.conditions, "parsed")
    assert found is not None
    sample, record = found
    assert record.condition == "autoprune@0.25"
    rights = [one for one in samples if lines[one.key, record.condition][0].answer == one.answer]
    assert sample == (rights or samples)[0]


@pytest.mark.parametrize("overrides", [["pruning.methods=[none]"], ["pruning.methods=[random]", "kept_samples=0"]])
def test_no_picture_where_nothing_was_recorded(tmp_path: Path, overrides: list[str]) -> None:
    folder = finished_run(tmp_path, *overrides)
    assert write_kept_tokens(folder, tmp_path / "data") is None


def test_no_picture_without_the_cameras_pictures(tmp_path: Path) -> None:
    folder = finished_run(tmp_path, "pruning.methods=[random]", "kept_samples=6")
    assert write_kept_tokens(folder, tmp_path / "elsewhere") is None
    assert not (folder.path / FILE).exists()


def test_layers_are_early_middle_and_late() -> None:
    assert early_middle_late(32) == [4, 16, 31]
    assert early_middle_late(8) == [1, 4, 7]
    assert early_middle_late(2) == [1]
    assert early_middle_late(1) == [0]


KEPT = np.array([True, False, False, False])


def test_only_what_feeds_kept_tokens_is_bright() -> None:
    """Four patches, each its own token; the upper left one is kept. A 4 x 2 image stands in the square's middle."""
    padded, cut = TokenMasks(np.eye(4), padded=True), TokenMasks(np.eye(4), padded=False)
    bright = brightness(padded, KEPT, (4, 2))
    assert bright.shape == (2, 4)
    np.testing.assert_allclose(bright, [[1, 1, 0.15, 0.15], [0.15] * 4])
    # cut out of the middle: the outer columns were never seen
    np.testing.assert_allclose(brightness(cut, KEPT, (4, 2)), [[0.15, 1, 0.15, 0.15], [0.15] * 4])
    np.testing.assert_allclose(brightness(padded, np.ones(4, dtype=bool), (2, 2)), np.ones((2, 2)))


def test_masks_of_the_page_by_hand() -> None:
    """Two views of four patches, each its own token, in four layers; the page lays a line's squares over its views."""
    masks = TokenMasks(np.eye(4), padded=False)
    assert masks.square((160, 90)) == (35, 0, 90), "the middle of a wide image"
    assert TokenMasks(np.eye(4), padded=True).square((160, 90)) == (0, -35, 160)
    strip = masks.strip([4, 4, 1, 0, 3, 0, 0, 0], views=2, layers=4)
    assert strip["lines"] == [0, 1, 1, 2], "tokens leave behind layers 0 and 2"
    image = Image.open(io.BytesIO(base64.b64decode(strip["uri"].partition(",")[2]))).convert("RGBA")
    opaque = np.asarray(image)[..., 3].reshape(3, 2, 2, 2).transpose(0, 2, 1, 3) > 0  # (lines, views, rows, columns)
    kept = [
        [[[1, 1], [1, 0]], [[1, 0], [0, 0]]],
        [[[1, 1], [0, 0]], [[1, 0], [0, 0]]],
        [[[1, 1], [0, 0]], [[0, 0]] * 2],
    ]
    np.testing.assert_array_equal(~opaque, np.array(kept, dtype=bool))
    assert set(np.unique(np.asarray(image)[..., 3])) == {0, round(0.75 * 255)}
