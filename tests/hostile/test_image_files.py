"""Images that somebody damaged or made up: a typed line names them, nothing huge is allocated, nothing waited for."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from senna_prune.errors import ImageError, InputError
from senna_prune.image_files import open_image
from senna_prune.model import SennaProcessor
from tests.fakes import tiny_config, tiny_tokenizer, tiny_views
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


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def in_file(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "image.png").write_bytes(content)
        return folder / "image.png"

    return write


def closed() -> Image.Image:
    image = Image.open(io.BytesIO(png(4, 4)))
    image.close()
    return image


TALL = png(1, 100_000)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
CASES: list[tuple[Callable[[Path], Any], str]] = [
    (in_file(TALL), "1x100000 is "),
    (lambda f: TALL, "1x100000 is "),
    (lambda f: np.zeros((100_000, 1, 3), np.uint8), "1x100000"),
    (lambda f: Image.new("RGB", (1, 100_000)), "1x100000"),
    (lambda f: Image.new("RGB", (900, 100)), "900x100 is no shape of a camera image"),
    (in_file(png(8000, 8000, rows=b"")), "too large (8000x8000)"),
    (in_file(png(2**31 - 1, 2**31 - 1, rows=b"")), "image.png"),
    (lambda f: np.broadcast_to(np.zeros(1, np.uint8), (90_000, 90_000, 3)), "too large (90000x90000)"),
    (in_file(png(4, 4, 16)), "more than 8 bits per channel"),
    (in_file(ppm(65535)), "more than 8 bits per channel"),
    (in_file(ppm(4095)), "more than 8 bits per channel"),
    (in_file(deep_tiff()), "more than 8 bits per channel"),
    (lambda f: Image.open(io.BytesIO(png(4, 4, 16))), "more than 8 bits"),
    (in_file(png(4, 4)[:30] + b"\xff" + png(4, 4)[31:]), "image.png"),
    (in_file(png(4, 4, before=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80 << 20))))), "image.png"),
    (in_file(EPS), "it is no JPEG, PNG, WEBP, BMP, PPM, TIFF, GIF file"),
    (in_file(b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(50)), "it is no JPEG"),
    (lambda f: fifo(f / "pipe.png"), "pipe.png: cannot be read (it is no ordinary file)"),
    (lambda f: Path("/dev/zero"), "/dev/zero: cannot be read (it is no ordinary file)"),
    (lambda f: (f / "link.png").symlink_to("nowhere") or f / "link.png", "link.png: no such image file"),
    (lambda f: f / ("x" * 300), "cannot be read (File name too long)"),
    (lambda f: f / "\ud800.png", "no such image file"),
    (lambda f: "a\0b.png", "cannot be read (the name holds a NUL character)"),
    (lambda f: closed(), "cannot be read as an image"),
    (lambda f: np.zeros((4, 4, 3), object), "the array holds object, not uint8"),
    (lambda f: f / "gone.jpg", "gone.jpg: no such image file"),
    (lambda f: f, "cannot be read (a folder stands there)"),
    (in_file(b"not an image"), "image.png: the file cannot be read as an image (it is no JPEG"),
    (in_file(b""), "image.png: the file cannot be read as an image"),
    (in_file(saved(Image.new("RGB", (90, 90)), "JPEG")[:700]), "truncated"),
    (in_file(saved(Image.new("I;16", (8, 8)), "PNG")), "image.png: the image has more than 8 bits"),
    (in_file(saved(Image.new("F", (8, 8)), "TIFF")), "image.png: the image has more than 8 bits"),
    (lambda f: Image.new("I", (8, 8)), "more than 8 bits per channel (mode I)"),
    (lambda f: Image.new("RGB", (0, 8)), "the image is empty (0x8)"),
    (lambda f: np.zeros((0, 8, 3), np.uint8), "the image is empty (8x0)"),
    (lambda f: np.zeros((8, 8, 3)), "the array holds float64, not uint8"),
    (lambda f: np.zeros((8, 8, 3), np.uint16), "the array holds uint16, not uint8"),
    (lambda f: np.zeros((3, 8, 8), np.uint8), "the array has shape (3, 8, 8)"),
    (lambda f: np.zeros((8, 8, 4), np.uint8), "the array has shape (8, 8, 4)"),
    (lambda f: torch.zeros(3, 8, 8), "Tensor is not an image"),
    (lambda f: None, "NoneType is not an image"),
]


@pytest.mark.parametrize(("make", "mention"), CASES, ids=[mention for _, mention in CASES])
def test_refused(make: Callable[[Path], Any], mention: str, tmp_path: Path) -> None:
    """Opened alone, and as one of a frame's six, where an image without a path is named by its view."""
    assert len(TALL) < 500
    made, processor = make(tmp_path), SennaProcessor.for_config(tiny_config(), tiny_tokenizer())
    views: list[Any] = [*tiny_views()]
    views[2] = made
    wanted = InputError if "array" in mention or "is not an image" in mention else ImageError
    for attempt in (lambda: open_image(made), lambda: processor(images=[views])):
        with pytest.raises(wanted) as caught:
            attempt()
        assert mention in str(caught.value)
        assert "\n" not in str(caught.value)
        assert " at 0x" not in str(caught.value), "an address differs from run to run"
    named = str(made).encode(errors="backslashreplace").decode() if isinstance(made, str | Path) else "view 2"
    assert str(caught.value).startswith(f"{named}:")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@settings(max_examples=40, deadline=None)
@given(cut=st.floats(0, 1), at=st.floats(0, 0.99), byte=st.integers(0, 255))
def test_a_damaged_file_is_refused_or_opened(format: str, cut: float, at: float, byte: int) -> None:
    """Cut off anywhere, or with any byte changed."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise), format)
    place = int(at * len(content))
    for damaged in (content[: int(cut * len(content))], content[:place] + bytes([byte]) + content[place + 1 :]):
        try:
            opened = open_image(damaged)
        except ImageError:
            continue
        assert opened.mode == "RGB"
