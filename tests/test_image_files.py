"""The opener of images: what it takes, and that bytes, files, arrays and PIL images give the same."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from senna_prune.errors import ImageError
from senna_prune.image_files import MAX_SIDE, open_image, read_image
from tests.hostile.test_image_files import in_file, png, ppm, saved


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


def test_the_largest_pictures_are_opened() -> None:
    assert open_image(Image.new("RGB", (MAX_SIDE, 4320))).size == (MAX_SIDE, 4320)
    assert open_image(np.zeros((100, 800, 3), np.uint8)).size == (800, 100)


def test_bytes_read_once_serve_digest_and_picture(tmp_path: Path) -> None:
    path = in_file(png(4, 4))(tmp_path)
    content = read_image(path)
    assert content == path.read_bytes()
    assert open_image(content, str(path)).size == (4, 4)
    with pytest.raises(ImageError, match="camera 3: the file cannot be read"):
        open_image(content[:20], "camera 3")


def test_orientation_of_bytes_and_files_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(Image.new("RGB", (8, 4)), "JPEG", exif=exif)
    assert open_image(content).size == (4, 8)
    assert open_image(in_file(content)(tmp_path)).size == (4, 8)


def test_an_upright_rgb_picture_is_not_copied() -> None:
    picture = Image.new("RGB", (16, 9))
    assert open_image(picture) is picture
