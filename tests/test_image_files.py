"""The opener of images: what it takes, and that bytes, files, arrays and PIL images give the same."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from senna_prune.errors import ImageError
from senna_prune.image_files import MAX_SIDE, open_image, read_image
from tests.hostile.test_image_files import in_file, ppm, saved


def test_what_is_not_deep_is_opened() -> None:
    """A palette, 5 bits per channel, fewer than 8 bits: nothing of them is lost."""
    for content in (ppm(255), ppm(100), saved(Image.new("P", (4, 4)), "PNG"), saved(Image.new("1", (4, 4)), "PPM")):
        assert open_image(content).mode == "RGB"
    assert open_image(bmp_of_16_bits()).mode == "RGB"


def bmp_of_16_bits() -> bytes:
    pixels = bytes(2 * 4 * 4)
    head = struct.pack("<2sIHHI", b"BM", 66 + len(pixels), 0, 0, 66)
    info = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 16, 3, len(pixels), 0, 0, 0, 0)
    return head + info + struct.pack("<III", 0xF800, 0x7E0, 0x1F) + pixels


def test_the_largest_images_are_opened() -> None:
    assert open_image(Image.new("RGB", (MAX_SIDE, 4320))).size == (MAX_SIDE, 4320)
    assert open_image(np.zeros((100, 800, 3), np.uint8)).size == (800, 100)


def gradient() -> np.ndarray:
    rows, columns = np.mgrid[:40, :80]
    return np.stack([rows * 3, columns * 2, rows + columns], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("turned", [False, True])
def test_sources_agree_and_orientation_is_applied(turned: bool, tmp_path: Path) -> None:
    """Tag 6 asks viewers to turn an image clockwise."""
    array, exif = gradient(), Image.Exif()
    exif[0x0112] = 6 if turned else 1
    content = saved(Image.fromarray(np.rot90(array) if turned else array), "PNG", exif=exif)
    path = in_file(content)(tmp_path)
    assert read_image(path) == content
    sources = [path, str(path), content, Image.open(path), *([] if turned else [array, Image.fromarray(array)])]
    for source in sources:
        np.testing.assert_array_equal(np.asarray(open_image(source)), array)
    with pytest.raises(ImageError, match="camera 3: the file cannot be read"):
        open_image(content[:20], "camera 3")


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_other_modes_become_rgb_and_the_callers_image_stays(mode: str) -> None:
    image = Image.fromarray(np.full((8, 8, 3), 255, dtype=np.uint8)).convert(mode)
    opened = open_image(image)
    assert (opened.mode, image.mode) == ("RGB", mode)
    assert np.asarray(opened).min() >= 254


def test_greyscale_array_has_three_equal_channels() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    np.testing.assert_array_equal(np.asarray(open_image(grey)), np.repeat(grey[..., None], 3, axis=2))


def test_an_upright_rgb_image_is_not_copied() -> None:
    image = Image.new("RGB", (16, 9))
    assert open_image(image) is image
