"""Pictures that somebody damaged or made up: a typed line names them, nothing huge is allocated, nothing waited for."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from senna_prune.errors import ImageError, InputError, SennaPruneError
from senna_prune.image_files import open_image
from tests.hostile import fifo


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, depth: int = 8, rows: bytes | None = None, before: bytes = b"") -> bytes:
    """A PNG file in RGB; without `rows`, all black."""
    head = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    if rows is None:
        rows = zlib.compress((b"\0" + bytes(3 * width * depth // 8)) * height, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def ppm(largest: int) -> bytes:
    return b"P6 4 4 %d\n" % largest + bytes(96)


def deep_tiff() -> bytes:
    """A TIFF file of 16-bit RGB, which Pillow reads and cannot write."""
    pixels = bytes(2 * 3 * 4)
    tags = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 140)]
    tags += [(277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, len(pixels)), (284, 3, 1, 1)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    content = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + struct.pack("<I", 0)
    return content.ljust(134, b"\0") + struct.pack("<HHH", 16, 16, 16) + pixels


def saved(picture: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def in_file(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "picture.png").write_bytes(content)
        return folder / "picture.png"

    return write


TALL = png(1, 100_000)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
CASES: dict[str, tuple[Callable[[Path], Any], type[SennaPruneError], str]] = {
    "tall file": (in_file(TALL), ImageError, "1x100000 is "),
    "tall bytes": (lambda f: TALL, ImageError, "1x100000 is "),
    "tall array": (lambda f: np.zeros((100_000, 1, 3), np.uint8), ImageError, "1x100000"),
    "tall PIL image": (lambda f: Image.new("RGB", (1, 100_000)), ImageError, "1x100000"),
    "long and thin": (lambda f: Image.new("RGB", (900, 100)), ImageError, "900x100 is no shape of a camera picture"),
    "header of many pixels": (in_file(png(8000, 8000, rows=b"")), ImageError, "too large (8000x8000)"),
    "header of a bomb": (in_file(png(2**31 - 1, 2**31 - 1, rows=b"")), ImageError, "picture.png"),
    "array without memory": (
        lambda f: np.broadcast_to(np.zeros(1, np.uint8), (90_000, 90_000, 3)),
        ImageError,
        "too large (90000x90000)",
    ),
    "16-bit PNG": (in_file(png(4, 4, 16)), ImageError, "more than 8 bits per channel"),
    "16-bit PPM": (in_file(ppm(65535)), ImageError, "more than 8 bits per channel"),
    "12-bit PPM": (in_file(ppm(4095)), ImageError, "more than 8 bits per channel"),
    "16-bit TIFF": (in_file(deep_tiff()), ImageError, "more than 8 bits per channel"),
    "lazily opened 16 bits": (lambda f: Image.open(io.BytesIO(png(4, 4, 16))), ImageError, "more than 8 bits"),
    "broken chunk": (in_file(png(4, 4)[:30] + b"\xff" + png(4, 4)[31:]), ImageError, "picture.png"),
    "text that swells": (
        in_file(png(4, 4, before=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80 << 20))))),
        ImageError,
        "picture.png",
    ),
    "PostScript": (in_file(EPS), ImageError, "it is no JPEG, PNG, WEBP, BMP, PPM, TIFF, GIF file"),
    "JPEG 2000": (in_file(b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(50)), ImageError, "it is no JPEG"),
    "a pipe": (lambda f: fifo(f / "pipe.png"), ImageError, "pipe.png: cannot be read (it is no ordinary file)"),
    "a device": (lambda f: Path("/dev/zero"), ImageError, "/dev/zero: cannot be read (it is no ordinary file)"),
    "dangling link": (lambda f: linked(f / "link.png"), ImageError, "link.png: no such image file"),
    "name too long": (lambda f: f / ("x" * 300), ImageError, "cannot be read (File name too long)"),
    "name that is no text": (lambda f: f / "\ud800.png", ImageError, "no such image file"),
    "name with a NUL": (lambda f: "a\0b.png", ImageError, "cannot be read (the name holds a NUL character)"),
    "closed": (lambda f: closed(), ImageError, "cannot be read as an image"),
    "objects": (lambda f: np.zeros((4, 4, 3), object), InputError, "the array holds object, not uint8"),
}


def linked(path: Path) -> Path:
    path.symlink_to("nowhere")
    return path


def closed() -> Image.Image:
    picture = Image.open(io.BytesIO(png(4, 4)))
    picture.close()
    return picture


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str, tmp_path: Path) -> None:
    make, kind, mention = CASES[case]
    with pytest.raises(kind) as caught:
        open_image(make(tmp_path))
    assert mention in str(caught.value)
    assert "\n" not in str(caught.value)
    assert " at 0x" not in str(caught.value), "an address differs from run to run"


def test_the_tall_file_is_small() -> None:
    assert len(TALL) < 500


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_a_file_cut_anywhere_is_refused_or_opened(format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise), format)
    for length in range(0, len(content), 7):
        try:
            opened = open_image(content[:length])
        except ImageError:
            continue
        assert opened.size == (20, 12)
