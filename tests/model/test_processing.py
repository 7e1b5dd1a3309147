"""SennaProcessor: chunk-wise ids, placeholders, padding, round trips; and the arithmetic of pixels."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoProcessor

from senna_prune.errors import InputError
from senna_prune.image_files import open_image
from senna_prune.model import SennaProcessor, planning_prompt, planning_question
from senna_prune.model.processing import (
    MEAN,
    MOST_OFF,
    PAD_COLOUR,
    STD,
    PaddingSide,
    pixel_values_of,
    pixel_values_on,
    to_pixel_values,
)
from senna_prune.model.token_layout import TokenLayout
from tests.fakes import tiny_config, tiny_senna, tiny_tokenizer, tiny_views

PROMPT = planning_prompt(planning_question(6, "go straight"))


def test_chunks_are_tokenised_on_their_own() -> None:
    _, processor = tiny_senna()
    ids = processor.encode_prompt(PROMPT).tolist()
    expected: list[int] = []
    for number, chunk in enumerate(PROMPT.split("<image>")):
        own = processor.tokenizer(chunk, add_special_tokens=False).input_ids
        expected += [512] * 8 + own if number else [1, *own]
    assert ids == expected
    assert ids.count(1) == 1, "only the first chunk begins with BOS"
    pieces = processor.tokenizer.convert_ids_to_tokens(ids[ids.index(512) + 8 :][:2])
    assert pieces == ["▁", "<0x0A>"], "a chunk after an image begins with the dummy prefix"


def test_layout_matches_the_prompt() -> None:
    model, processor = tiny_senna()
    layout = TokenLayout.from_ids(processor.encode_prompt(PROMPT), model.config.image_token_id, 8)
    assert layout.num_visual == 48
    question = processor.encode_prompt(PROMPT)[layout.question].tolist()
    assert processor.tokenizer.decode(question).strip().startswith("Your current speed is 6 m/s")


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding(side: PaddingSide) -> None:
    _, processor = tiny_senna()
    batch = processor(text=["short", PROMPT.replace("<image>", "")], padding_side=side)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    assert ids.shape == mask.shape
    row = processor.encode_prompt("short")
    assert torch.equal(ids[0, mask[0].bool()], row)
    assert (ids[0, ~mask[0].bool()] == 0).all(), "padded with the unknown token"
    assert int(mask[0, 0]) == (1 if side == "right" else 0)


def test_single_prompt_takes_a_single_frame() -> None:
    _, processor = tiny_senna()
    views = tiny_views()
    single, batch = processor(text=PROMPT, images=views), processor(text=[PROMPT], images=[views])
    for name in ("input_ids", "attention_mask", "pixel_values"):
        assert torch.equal(single[name], batch[name])
    assert single["pixel_values"].shape == (1, 6, 3, 56, 56)


def test_images_alone() -> None:
    _, processor = tiny_senna()
    pixel_values = processor(images=[tiny_views(0), tiny_views(1)])["pixel_values"]
    expected = to_pixel_values(open_image(tiny_views(1)[3]), 56, "pad")
    assert torch.equal(pixel_values[1, 3], expected)


def test_one_lazy_turned_image_for_every_view(tmp_path: Path) -> None:
    _, processor = tiny_senna()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(tiny_views()[0]).save(tmp_path / "turned.jpg", exif=exif)
    paths = processor.encode_views([tmp_path / "turned.jpg"] * 6)
    with Image.open(tmp_path / "turned.jpg") as lazy:
        assert torch.equal(processor.encode_views([lazy] * 6), paths)
    upright = to_pixel_values(open_image(tmp_path / "turned.jpg"), 56, "pad")
    assert torch.equal(paths, upright.expand_as(paths))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_starts_its_own_threads() -> None:
    views = [np.full((8, 8, 3), number, dtype=np.uint8) for number in range(6)]
    here = _pixel_numbers(views)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_pixel_numbers, (views,)).get(timeout=60) == here


def _pixel_numbers(views: list[np.ndarray]) -> object:
    return pixel_values_of(views, 8).tolist()


def test_to_casts_only_pixels() -> None:
    _, processor = tiny_senna()
    batch = processor(text=PROMPT, images=tiny_views()).to(torch.bfloat16)
    assert batch["pixel_values"].dtype == torch.bfloat16
    assert batch["input_ids"].dtype == torch.int64


@pytest.mark.parametrize("aspect_ratio", ["pad", "plain"])
def test_round_trip_by_auto_class(tmp_path: Path, aspect_ratio: str) -> None:
    processor = SennaProcessor.for_config(tiny_config(), tiny_tokenizer(), aspect_ratio)  # type: ignore[arg-type]
    processor.save_pretrained(tmp_path)
    tiny_config().save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, SennaProcessor)
    inputs, again = processor(text=PROMPT, images=tiny_views()), loaded(text=PROMPT, images=tiny_views())
    for name, tensor in inputs.items():
        assert torch.equal(tensor, again[name])


def test_wrong_numbers_are_named() -> None:
    _, processor = tiny_senna()
    views = tiny_views()
    with pytest.raises(InputError, match="2 prompts but images of 1"):
        processor(text=[PROMPT, PROMPT], images=[views])
    with pytest.raises(InputError, match="5 images were given for 6"):
        processor(text=PROMPT, images=views[:5])
    with pytest.raises(InputError, match="1 <image> markers, expected 6"):
        processor(text="<image> what?")
    with pytest.raises(InputError, match="no prompts"):
        processor(text=[])
    with pytest.raises(InputError, match="NoneType is no prompt"):
        processor(text=[None])  # type: ignore[list-item]
    with pytest.raises(InputError, match="cannot be tokenised"):
        processor(text="lone surrogate \ud800")
    with pytest.raises(InputError, match="padding_side"):
        processor(text=["a", "b"], padding_side="middle")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="image_aspect_ratio"):
        SennaProcessor(tiny_tokenizer(), image_aspect_ratio="anyres")  # type: ignore[arg-type]


def test_a_prompt_beyond_the_limit_is_refused_not_cut() -> None:
    _, processor = tiny_senna()
    with pytest.raises(InputError, match="the limit is 2048"):
        processor(text="word " * 3000)


# One image


def denormalised(values: torch.Tensor) -> np.ndarray:
    """Back to 8-bit values, (H, W, 3)."""
    return (values.permute(1, 2, 0).numpy() * np.array(STD) + np.array(MEAN)) * 255


def gradient(height: int = 40, width: int = 80) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 3, columns * 2, rows + columns], axis=-1).astype(np.uint8)


def test_pad_puts_the_image_in_the_middle_of_the_pad_colour() -> None:
    image = Image.fromarray(np.full((28, 56, 3), 200, dtype=np.uint8))
    values = denormalised(to_pixel_values(image, 56, "pad"))
    assert values.shape == (56, 56, 3)
    np.testing.assert_allclose(values[:14], np.broadcast_to(PAD_COLOUR, (14, 56, 3)), atol=1e-3)
    np.testing.assert_allclose(values[42:], np.broadcast_to(PAD_COLOUR, (14, 56, 3)), atol=1e-3)
    np.testing.assert_allclose(values[14:42], 200, atol=1e-3)


@pytest.mark.parametrize("aspect_ratio", ["pad", "plain"])
@pytest.mark.parametrize(("height", "width"), [(90, 160), (900, 1600), (160, 90), (40, 40)])
@pytest.mark.parametrize("kind", ["noise", "gradient"])
def test_resizing_on_the_device_is_near_the_exact_one(kind: str, height: int, width: int, aspect_ratio: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise if kind == "noise" else gradient(height, width))
    near = pixel_values_on(torch.device("cpu"), image, 56, aspect_ratio)  # type: ignore[arg-type]
    exact = to_pixel_values(image, 56, aspect_ratio)  # type: ignore[arg-type]
    off = np.abs(denormalised(near) - denormalised(exact)).max()
    assert off <= MOST_OFF + 1e-3


def test_pad_of_a_tall_images() -> None:
    values = denormalised(to_pixel_values(Image.fromarray(np.zeros((60, 20, 3), dtype=np.uint8)), 60, "pad"))
    np.testing.assert_allclose(values[:, :20], np.broadcast_to(PAD_COLOUR, (60, 20, 3)), atol=1e-3)
    np.testing.assert_allclose(values[:, 20:40], 0, atol=1e-3)


@given(
    width=st.integers(1, 400), height=st.integers(1, 400), size=st.sampled_from([14, 56, 336]), seed=st.integers(0, 9)
)
@settings(max_examples=60, deadline=None)
def test_pad_is_bit_for_bit_padding_then_resizing(width: int, height: int, size: int, seed: int) -> None:
    """The shortcut for wide images and the table of pixel values change nothing."""
    array = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    side = max(width, height)
    square = Image.new("RGB", (side, side), PAD_COLOUR)
    square.paste(Image.fromarray(array), ((side - width) // 2, (side - height) // 2))
    resized = np.asarray(square.resize((size, size), Image.Resampling.BICUBIC))
    plain = ((resized * (1 / 255)).astype(np.float32) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    values = to_pixel_values(Image.fromarray(array), size, "pad")
    assert torch.equal(values, torch.from_numpy(plain.transpose(2, 0, 1).copy()))


def test_plain_crops_the_centre() -> None:
    image = gradient(40, 81)
    values = denormalised(to_pixel_values(Image.fromarray(image), 40, "plain"))
    np.testing.assert_allclose(values, image[:, 20:60], atol=1e-3)


@pytest.mark.parametrize("aspect_ratio", ["pad", "plain"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (333, 336), (900, 1600)])
def test_any_size_gives_the_square(size: tuple[int, int], aspect_ratio: str) -> None:
    values = to_pixel_values(Image.new("RGB", size[::-1]), 56, aspect_ratio)  # type: ignore[arg-type]
    assert values.shape == (3, 56, 56)
    assert values.dtype == torch.float32
