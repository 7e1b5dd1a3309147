"""Opening camera pictures: the one place where image files and arrays from outside are checked and decoded."""

from __future__ import annotations

import io
import os
import re
import struct
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from senna_prune.errors import ImageError, InputError
from senna_prune.files import read_bytes

Picture = Image.Image | np.ndarray | bytes | str | PathLike[str]
"""A camera picture: PIL image, numpy array (H, W, 3) or (H, W) of uint8, the bytes of an image file, or its path."""

MAX_FILE_BYTES = 256 << 20
MAX_PIXELS = 36_000_000
"""Pixels of a camera picture: a little more than 8K video."""
MAX_ASPECT = 8
"""Longer by shorter side. Padding to a square needs memory for the square of the longer side."""

_DEEP_MODES = ("I", "F")
_UNDECODABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises over a damaged file (`UnidentifiedImageError` is an `OSError`)."""


def open_picture(picture: Picture, where: str = "image") -> Image.Image:
    """An upright 8-bit RGB picture.

    Greyscale becomes three equal channels, transparency is dropped. An EXIF orientation is applied, so that the model
    sees the picture as a viewer shows it (deviation: the reference ignores the tag; nuScenes files carry none).

    Args:
        picture: the picture.
        where: what an error names when the picture has no path.

    Raises:
        ImageError: unreadable or truncated file, zero size, too many pixels, far longer than wide, more than 8 bits per
            channel.
        InputError: not a picture at all, or an array of another type or shape.
    """
    if isinstance(picture, np.ndarray):
        picture = _from_array(picture, where)
    elif isinstance(picture, str | PathLike):
        where = str(picture)
        picture = _from_bytes(read_picture(picture), where)
    elif isinstance(picture, bytes):
        picture = _from_bytes(picture, where)
    elif not isinstance(picture, Image.Image):
        raise InputError(
            f"{type(picture).__name__} is not a picture",
            where=where,
            hint="pass a PIL image, a uint8 array of shape (height, width, 3) or a path",
        )
    _check_size(picture, where)
    if picture.mode.split(";")[0] in _DEEP_MODES or _is_deep(picture):
        raise ImageError(
            f"the picture has more than 8 bits per channel (mode {picture.mode})",
            where=where,
            hint="tone-map it to 8 bit first; clipping it here would hide most of it",
        )
    try:
        return ImageOps.exif_transpose(picture).convert("RGB")
    except _UNDECODABLE as error:
        raise _undecodable(error, where) from error


def read_picture(path: str | PathLike[str]) -> bytes:
    """The bytes of an image file, not decoded.

    Raises:
        ImageError: there is no such file, it is no ordinary file, or cannot be read.
    """
    if not os.path.exists(path):  # noqa: PTH110 - `Path.exists` fails for a name that is too long
        raise ImageError("no such image file", where=path, hint="check the image root")
    return read_bytes(Path(path), MAX_FILE_BYTES, "check the image root", ImageError)


def _from_bytes(content: bytes, where: str) -> Image.Image:
    try:
        # Reads the header alone; pixels are decoded once their number is checked.
        return Image.open(io.BytesIO(content))
    except _UNDECODABLE as error:
        raise _undecodable(error, where) from error


def _from_array(array: np.ndarray, where: str) -> Image.Image:
    hint = "pass a uint8 array of shape (height, width, 3)"
    if array.dtype != np.uint8:
        raise InputError(f"the array holds {array.dtype}, not uint8", where=where, hint=hint)
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] != 3):
        raise InputError(f"the array has shape {array.shape}", where=where, hint=hint)
    if 0 in array.shape:
        raise ImageError(f"the picture is empty ({array.shape[1]}x{array.shape[0]})", where=where)
    return Image.fromarray(array)


def _check_size(picture: Image.Image, where: str) -> None:
    width, height = picture.size
    if 0 in picture.size:
        raise ImageError(f"the picture is empty ({width}x{height})", where=where)
    if width * height > MAX_PIXELS:
        raise ImageError(f"the picture is too large ({width}x{height})", where=where, hint="scale it down first")
    if max(picture.size) > MAX_ASPECT * min(picture.size):
        raise ImageError(f"{width}x{height} is no shape of a camera picture", where=where, hint="crop it first")


def _is_deep(picture: Image.Image) -> bool:
    """Whether a file of more than 8 bits per channel would be opened as 8-bit: Pillow does so with RGB."""
    formats = [str(tile[-1]) for tile in getattr(picture, "tile", [])]
    return any(re.search(r";16|, (?!255\b)\d{3,5}\)$", name) for name in formats)


def _undecodable(error: Exception, where: str) -> ImageError:
    return ImageError(f"the file cannot be read as an image ({' '.join(str(error).split())[:120]})", where=where)
