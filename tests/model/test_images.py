"""Image preparation: pixel arithmetic on known images, and every kind of image a user may bring."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from senna_prune.model.processing import MEAN, MOST_OFF, PAD_COLOUR, STD, pixel_values_on, to_pixel_values


def denormalised(values: torch.Tensor) -> np.ndarray:
    """Back to 8-bit values, (H, W, 3)."""
    return (values.permute(1, 2, 0).numpy() * np.array(STD) + np.array(MEAN)) * 255


def gradient(height: int = 40, width: int = 80) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 3, columns * 2, rows + columns], axis=-1).astype(np.uint8)


def test_pad_puts_the_picture_in_the_middle_of_the_pad_colour() -> None:
    picture = Image.fromarray(np.full((28, 56, 3), 200, dtype=np.uint8))
    values = denormalised(to_pixel_values(picture, 56, "pad"))
    assert values.shape == (56, 56, 3)
    np.testing.assert_allclose(values[:14], np.broadcast_to(PAD_COLOUR, (14, 56, 3)), atol=1e-3)
    np.testing.assert_allclose(values[42:], np.broadcast_to(PAD_COLOUR, (14, 56, 3)), atol=1e-3)
    np.testing.assert_allclose(values[14:42], 200, atol=1e-3)


@pytest.mark.parametrize("aspect_ratio", ["pad", "plain"])
@pytest.mark.parametrize(("height", "width"), [(90, 160), (900, 1600), (160, 90), (40, 40)])
@pytest.mark.parametrize("kind", ["noise", "gradient"])
def test_resizing_on_the_device_is_near_the_exact_one(kind: str, height: int, width: int, aspect_ratio: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(noise if kind == "noise" else gradient(height, width))
    near = pixel_values_on(torch.device("cpu"), picture, 56, aspect_ratio)  # type: ignore[arg-type]
    exact = to_pixel_values(picture, 56, aspect_ratio)  # type: ignore[arg-type]
    off = np.abs(denormalised(near) - denormalised(exact)).max()
    assert off <= MOST_OFF + 1e-3


def test_pad_of_a_tall_picture() -> None:
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
    picture = gradient(40, 81)
    values = denormalised(to_pixel_values(Image.fromarray(picture), 40, "plain"))
    np.testing.assert_allclose(values, picture[:, 20:60], atol=1e-3)


@pytest.mark.parametrize("aspect_ratio", ["pad", "plain"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (333, 336), (900, 1600)])
def test_any_size_gives_the_square(size: tuple[int, int], aspect_ratio: str) -> None:
    values = to_pixel_values(Image.new("RGB", size[::-1]), 56, aspect_ratio)  # type: ignore[arg-type]
    assert values.shape == (3, 56, 56)
    assert values.dtype == torch.float32
