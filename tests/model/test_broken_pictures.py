"""Whatever is wrong with an image of a frame is named in one line, by a typed error that says which image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from senna_prune.errors import ImageError, InputError, SennaPruneError
from senna_prune.model import SennaProcessor
from tests.fakes import tiny_config, tiny_tokenizer, tiny_views
from tests.model.damage import replaced
from tests.model.test_broken_inputs import assert_one_line


def saved(name: str, picture: Image.Image) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        picture.save(folder / name)
        return folder / name

    return write


def file_of(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def cut_jpeg(folder: Path) -> Path:
    Image.fromarray(tiny_views()[0]).save(folder / "cut.jpg")
    replaced("cut.jpg", 0.5)(folder)
    return folder / "cut.jpg"


PICTURES: dict[str, tuple[Callable[[Path], Any], type[SennaPruneError], tuple[str, ...]]] = {
    "missing file": (lambda f: f / "gone.jpg", ImageError, ("gone.jpg: no such image file",)),
    "a folder": (lambda f: f, ImageError, ("cannot be read",)),
    "text file": (file_of("notes.jpg", b"not a picture"), ImageError, ("notes.jpg", "cannot be read")),
    "empty file": (file_of("empty.png", b""), ImageError, ("empty.png", "cannot be read")),
    "truncated jpeg": (cut_jpeg, ImageError, ("cut.jpg", "truncated")),
    "16 bit": (saved("deep.png", Image.new("I;16", (8, 8))), ImageError, ("deep.png", "more than 8 bits")),
    "32 bit": (lambda f: Image.new("I", (8, 8)), ImageError, ("view 2", "more than 8 bits", "mode I")),
    "floating point": (saved("deep.tiff", Image.new("F", (8, 8))), ImageError, ("deep.tiff", "more than 8 bits")),
    "no pixels": (lambda f: Image.new("RGB", (0, 8)), ImageError, ("view 2", "empty (0x8)")),
    "array without pixels": (lambda f: np.zeros((0, 8, 3), np.uint8), ImageError, ("view 2", "empty (8x0)")),
    "float array": (lambda f: np.zeros((8, 8, 3)), InputError, ("float64, not uint8",)),
    "16-bit array": (lambda f: np.zeros((8, 8, 3), np.uint16), InputError, ("uint16, not uint8",)),
    "channels first": (lambda f: np.zeros((3, 8, 8), np.uint8), InputError, ("shape (3, 8, 8)",)),
    "four channels": (lambda f: np.zeros((8, 8, 4), np.uint8), InputError, ("shape (8, 8, 4)",)),
    "tensor": (lambda f: torch.zeros(3, 8, 8), InputError, ("Tensor is not an image",)),
    "nothing": (lambda f: None, InputError, ("NoneType is not an image",)),
}


@pytest.mark.parametrize("case", PICTURES)
def test_broken_picture(case: str, tmp_path: Path) -> None:
    make, kind, fragments = PICTURES[case]
    processor = SennaProcessor.for_config(tiny_config(), tiny_tokenizer())
    views: list[Any] = [*tiny_views()]
    views[2] = make(tmp_path)
    with pytest.raises(kind) as caught:
        processor(images=[views])
    assert_one_line(caught.value, fragments)
