"""Measured attention: against the weights that the eager kernel returns, on every host; definitions by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from senna_prune.commands.attention import main
from senna_prune.errors import InputError
from senna_prune.evaluation.audit.attention import (
    PromptAttention,
    effective_rank,
    prompt_attention,
    roc_area,
    views_of,
)
from senna_prune.evaluation.audit.intervals import ratio_of_sums
from senna_prune.evaluation.audit.measure import in_words, measure, summary
from senna_prune.evaluation.audit.prompts import Asked, images_asked
from senna_prune.evaluation.report.attention import draw_attention, drawn_layers
from senna_prune.hosts.host import find_host
from senna_prune.model.token_layout import TokenLayout
from senna_prune.task.labels import CAMERAS
from senna_prune.task.objects import SeenObject
from senna_prune.task.prompts import planning_prompt, planning_question
from senna_prune.task.sample import read_samples, write_samples
from tests.evaluation.checkpoint import write_checkpoint, write_planning_set
from tests.fakes import tiny_senna, tiny_views
from tests.tiny_hosts import HOSTS, picture, prompts, tiny_host


def model_and_inputs(kind: str, attention: str) -> tuple[Any, Any, dict[str, Any], list[tuple[int, int]]]:
    """Model, processor, a prompt of several images, and their sizes."""
    if kind == "senna":
        model, processor = tiny_senna(attn_implementation=attention)
        inputs = processor(planning_prompt(planning_question(3, "go straight")), tiny_views())
        return model, processor, dict(inputs), [(160, 90)] * 6
    model, processor = tiny_host(kind, attention)
    sizes = [(90, 160), (160, 84)]
    return model, processor, prompts(processor, sizes), [(width, height) for height, width in sizes]


@pytest.mark.parametrize("kind", ["senna", *HOSTS])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rows_are_those_of_the_eager_kernel(kind: str, attention: str) -> None:
    model, *_, inputs, _ = model_and_inputs(kind, attention)
    found = prompt_attention(model, inputs)
    eager, *_ = model_and_inputs(kind, "eager")
    with torch.inference_mode():
        outputs = eager(**inputs, output_attentions=True, output_hidden_states=True)
    visual, question = found.layout.visual, found.layout.question
    assert found.place.shape == (2, len(outputs.attentions), len(visual))
    for layer, weights in enumerate(outputs.attentions):
        mean = weights[0].double().mean(dim=0)
        for number, rows in enumerate((mean[-1:], mean[question])):
            own = rows.mean(dim=0)[visual]
            assert found.share[number, layer] == pytest.approx(float(own.sum()), rel=1e-4)
            np.testing.assert_allclose(found.place[number, layer], own / own.sum(), rtol=2e-3, atol=1e-6)
        if kind != "qwen3_vl" or layer not in (1, 2):  # DeepStack adds to them once they are recorded
            states = outputs.hidden_states[layer][0, visual]
            assert found.rank[layer] == pytest.approx(effective_rank(states), rel=1e-3)
    hooks = [hook for m in model.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    assert not [hook for hook in hooks if hook.__module__.startswith("senna_prune")]  # transformers leaves its own


def test_definitions_by_hand() -> None:
    place = np.array([[[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]], [[1, 0, 0, 0], [0, 0, 0.5, 0.5]]])
    found = PromptAttention(TokenLayout(4, {"0": range(4)}), np.ones((2, 2)), place, np.ones(2))
    np.testing.assert_allclose(found.effective, [[4, 2], [1, 2]])
    np.testing.assert_allclose(found.moved, [[np.nan, 0.5], [np.nan, 1]])
    lift, area = found.on(np.array([True, False, False, False]))
    np.testing.assert_allclose(lift, [[1, 2], [4, 0]])
    np.testing.assert_allclose(area, [[0.5, 5 / 6], [1, 1 / 6]])
    assert np.isnan(found.on(np.zeros(4, dtype=bool))).all()
    assert roc_area(np.array([1.0, 2, 3, 4]), np.array([False, False, True, True])) == 1
    assert effective_rank(torch.eye(5)) == pytest.approx(5)
    assert effective_rank(torch.ones(5, 3)) == pytest.approx(1, abs=1e-4)


def test_a_ratio_is_of_sums_and_its_interval_over_scenes() -> None:
    assert ratio_of_sums([1, 2], [2, 4], ["a", "a"]) == (0.5, None)
    middle, bounds = ratio_of_sums([0, 0, 1, 1], np.ones(4), ["a", "a", "b", "b"])
    assert (middle, bounds) == (0.5, (0, 1))  # two scenes, alike inside: as wide as can be
    assert np.isnan(ratio_of_sums([0, 0], [0, 0], ["a", "b"])[0])


@pytest.mark.parametrize("kind", ["senna", *HOSTS])
def test_visual_tokens_stand_where_their_pixels_are(kind: str) -> None:
    """Pixels are changed inside a box: the patches that change are those that the views say lie in it."""
    model, processor, inputs, sizes = model_and_inputs(kind, "sdpa")
    host = find_host(model)
    assert host is not None
    (layout,) = host.layouts([inputs["input_ids"][0]], model.get_image_features(**images_of(inputs)))
    views = views_of(model, processor, inputs, sizes, layout)
    assert views is not None and [view.num_tokens for view in views] == [len(span) for span in layout.views.values()]
    box = (60.0, 28.0, 130.0, 90.0)
    first = np.asarray(picture(90, 160)) if kind != "senna" else tiny_views()[0]
    changed = np.array(first)
    changed[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] ^= 255
    pixels = [patch_pixels(kind, model, processor, Image.fromarray(image)) for image in (first, changed)]
    differs = np.abs(pixels[0] - pixels[1]).max(axis=1)
    cover = views[0].patch_cover(box)[: len(differs)]
    assert (cover > 0.99).sum() >= 1 and (cover == 0).sum() >= 1
    far = views[0].patch_cover((box[0] - 9, box[1] - 9, box[2] + 9, box[3] + 9))[: len(differs)] == 0
    assert differs[cover > 0.99].min() > 0.1
    assert differs[far].max(initial=0) < 0.01


def images_of(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: inputs[name] for name in ("pixel_values", "image_sizes", "image_grid_thw") if name in inputs}


def patch_pixels(kind: str, model: Any, processor: Any, image: Image.Image) -> np.ndarray:
    """What the tower reads of an image (of LLaVA-NeXT its small copy), by patch in the order of the tokens."""
    if kind == "senna":
        views = processor.encode_views([image] * 6)
    else:
        views = prompts_of(processor, image)["pixel_values"]
    if kind.startswith("qwen"):
        return np.asarray(views.reshape(len(views) // 4, -1))
    tile = views.reshape(-1, 3, 56, 56)[0]
    return np.asarray(tile.reshape(3, 4, 14, 4, 14).permute(1, 3, 0, 2, 4).reshape(16, -1))


def prompts_of(processor: Any, image: Image.Image) -> Any:
    return processor(images=[image], text=f"{processor.image_token} where?", return_tensors="pt")


def test_the_tiles_of_llava_next_are_placed_row_by_row() -> None:
    model, processor, inputs, sizes = model_and_inputs("llava_next", "sdpa")
    host = find_host(model)
    assert host is not None
    (layout,) = host.layouts([inputs["input_ids"][0]], model.get_image_features(**images_of(inputs)))
    views = views_of(model, processor, inputs, sizes, layout)
    assert views is not None
    for view, (width, height) in zip(views, sizes, strict=True):
        tiles = view.patches[16:]
        ends = (tiles == 0).all(axis=1)
        assert ends[-1] and ends.sum() >= 2
        shown = tiles[~ends]
        assert np.prod(shown[:, 2:] - shown[:, :2], axis=1).sum() == pytest.approx(width * height)
        assert (np.diff(shown[:, 1]) >= 0).all()


def asked(scene: str = "a", objects: tuple[SeenObject, ...] | None = None) -> Asked:
    root = Path()
    return Asked("one", "images", scene, planning_question(3, "go straight"), dict.fromkeys(CAMERAS, root), objects)


def told(area: list[float], scenes: int = 4) -> list[Any]:
    """Measured prompts whose last token has these areas by layer, alike in all scenes."""
    from senna_prune.evaluation.audit.measure import Measured

    layers = len(area)
    attention = PromptAttention(
        TokenLayout(4, {"0": range(4)}), np.ones((2, layers)), np.full((2, layers, 4), 0.25), np.ones(layers)
    )
    both = np.array([area, area])
    return [Measured(asked(str(scene)), attention, both, both, [], None) for scene in range(scenes)]


@pytest.mark.parametrize(
    ("area", "said"),
    [
        ([0.5, 0.7, 0.8, 0.9], "has a basis on this model from layer 1 on of 4"),
        ([0.7, 0.5, 0.8, 0.9, 0.5], "has a basis on this model in layers 2 to 3 of 5"),
        ([0.5, 0.55, 0.4], "no basis on this model.*at most 0.55"),
        ([float("nan")] * 3, "cannot be said without objects"),
    ],
)
def test_words(area: list[float], said: str) -> None:
    import re

    assert re.search(said, in_words(summary(told(area))))
    assert "4 of 4 visual tokens" in in_words(summary(told(area)))


@pytest.mark.parametrize(("layers", "drawn"), [(32, [2, 4, 8, 16]), (12, [1, 2, 3, 6]), (4, [1, 2]), (1, [0])])
def test_drawn_layers(layers: int, drawn: list[int]) -> None:
    assert drawn_layers(layers) == drawn


def test_images_of_cameras_are_paired(tmp_path: Path) -> None:
    for number in range(2):
        for camera in CAMERAS:
            path = tmp_path / camera / f"n__{camera}__{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8)).save(path)
    frames = images_asked(tmp_path, CAMERAS, None, 9)
    assert [list(frame.paths) for frame in frames] == [list(CAMERAS)] * 2
    assert all(camera == path.parent.name for frame in frames for camera, path in frame.paths.items())
    assert len(images_asked(tmp_path, (), "what?", 5)) == 5
    (tmp_path / CAMERAS[0] / f"n__{CAMERAS[0]}__0.png").unlink()
    with pytest.raises(InputError, match="different numbers of images"):
        images_asked(tmp_path, CAMERAS, None, 9)
    with pytest.raises(InputError, match="no images"):
        images_asked(tmp_path / CAMERAS[1] / "none", (), None, 9)


@pytest.mark.parametrize("kind", HOSTS)
def test_any_host_is_measured_on_a_folder_of_images(kind: str, tmp_path: Path) -> None:
    model, processor = tiny_host(kind)
    picture(90, 160).save(tmp_path / "one.png")
    measured = [measure(model, processor, one) for one in images_asked(tmp_path, (), "where to?", 1)]
    assert "cannot be said without objects" in in_words(summary(measured))
    assert draw_attention(measured[0]) is not None


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path / "model", num_layers=4)
    path = write_planning_set(tmp_path / "data", count=3)
    seen = (SeenObject("car", {"CAM_FRONT": (20.0, 10.0, 90.0, 80.0)}, 9.0),)
    write_samples(path, [replace(sample, objects=seen) for sample in read_samples(path)])
    given = [str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*given, "--planning-set", str(path), "--limit", "2"]) == 0
    shown = capsys.readouterr().out
    assert "2 prompts of 48 visual tokens" in shown and "Attention-ranked pruning has" in " ".join(shown.split())
    assert (tmp_path / "out" / "attention.csv").read_text().count("\n") == 1 + 2 * 4
    assert Image.open(tmp_path / "out" / "attention-plan.png").width > 500
    assert main([*given, "--images", str(tmp_path / "absent")]) == 2
    assert "no images whose names tell the camera" in capsys.readouterr().err
