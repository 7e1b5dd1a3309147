"""Opening camera images: the one place where image files and arrays from outside are checked and decoded."""

from __future__ import annotations

import io
import re
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from senna_prune.errors import ImageError, InputError, as_error
from senna_prune.files import accessing, read_bytes

AnyImage = Image.Image | np.ndarray | bytes | str | PathLike[str]
"""A camera image: PIL image, numpy array (H, W, 3) or (H, W) of uint8, the bytes of an image file, or its path."""

MAX_FILE_BYTES = 256 << 20
MAX_PIXELS = 36_000_000
"""Pixels of a camera image: a little more than 8K video."""
MAX_SIDE = 8192
"""Longer side in pixels: padding to a square needs memory for its square."""
MAX_ASPECT = 8
"""Longer by shorter side."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
"""What cameras and their tools write. Pillow knows more, some of which run other programs (EPS) or hide that they hold
more than 8 bits (JPEG 2000)."""
_DEEP_MODES = ("I", "F")


def middle_square(size: tuple[int, int], padded: bool) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the square that becomes patches, in pixels of an image of a width and height.

    Args:
        padded: the image is centred on a square; otherwise its middle square is cut out.
    """
    side = max(size) if padded else min(size)
    left, top = ((length - side) / 2 for length in size)
    return left, top, left + side, top + side


def open_image(image: AnyImage, where: str = "image") -> Image.Image:
    """An upright 8-bit RGB image; the given one itself if it is that already.

    Greyscale becomes three equal channels, transparency is dropped. An EXIF orientation is applied, so that the model
    sees the image as a viewer shows it (deviation: the reference ignores the tag; nuScenes files carry none).

    Args:
        image: what to open.
        where: what an error names when the image has no path.

    Raises:
        ImageError: unreadable or truncated file, another format, zero size, too many pixels, far longer than wide, more
            than 8 bits per channel.
        InputError: not an image at all, or an array of another type or shape.
    """
    if isinstance(image, np.ndarray):
        image = _from_array(image, where)
    elif isinstance(image, str | PathLike):
        where = str(image)
        image = _from_bytes(read_image(image), where)
    elif isinstance(image, bytes):
        image = _from_bytes(image, where)
    elif not isinstance(image, Image.Image):
        raise InputError(
            f"{type(image).__name__} is not an image",
            where=where,
            hint="pass a PIL image, a uint8 array of shape (height, width, 3) or a path",
        )
    _check_size(*image.size, where)
    if image.mode.split(";")[0] in _DEEP_MODES or _is_deep(image):
        raise ImageError(
            f"the image has more than 8 bits per channel (mode {image.mode})",
            where=where,
            hint="tone-map it to 8 bit first; clipping it here would hide most of it",
        )
    with _decoding(where):
        image.load()
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
        # Both calls copy even where there is nothing to do: half of the time that preprocessing takes.
        return image if image.mode == "RGB" else image.convert("RGB")


def read_image(path: str | PathLike[str]) -> bytes:
    """The bytes of an image file, not decoded.

    Raises:
        ImageError: there is no such file, it is no ordinary file, or cannot be read.
    """
    path, hint = Path(path), "check the image root"
    with accessing(path, "read", hint, ImageError):
        if not path.exists():
            raise ImageError("no such image file", where=path, hint=hint)
    return read_bytes(path, MAX_FILE_BYTES, hint, ImageError)


def _from_bytes(content: bytes, where: str) -> Image.Image:
    with _decoding(where):
        try:
            # Reads the header alone; pixels are decoded once their number is checked.
            return Image.open(io.BytesIO(content), formats=_FORMATS)
        except UnidentifiedImageError as error:  # its own message holds an address in memory
            raise ValueError(f"it is no {', '.join(_FORMATS)} file") from error


def _from_array(array: np.ndarray, where: str) -> Image.Image:
    hint = "pass a uint8 array of shape (height, width, 3)"
    if array.dtype != np.uint8:
        raise InputError(f"the array holds {array.dtype}, not uint8", where=where, hint=hint)
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] != 3):
        raise InputError(f"the array has shape {array.shape}", where=where, hint=hint)
    _check_size(array.shape[1], array.shape[0], where)
    return Image.fromarray(array)


def _check_size(width: int, height: int, where: str) -> None:
    short, long = sorted((width, height))
    if short == 0:
        raise ImageError(f"the image is empty ({width}x{height})", where=where)
    if long > MAX_ASPECT * short:
        raise ImageError(f"{width}x{height} is no shape of a camera image", where=where, hint="crop it first")
    if width * height > MAX_PIXELS or long > MAX_SIDE:
        raise ImageError(f"the image is too large ({width}x{height})", where=where, hint="scale it down first")


def _is_deep(image: Image.Image) -> bool:
    """Whether the file holds more than 8 bits per channel, although Pillow opens it as 8-bit, as it does with RGB.

    What is left to decode tells it: a raw mode such as "RGB;16B", or the largest value of a PPM file.
    """
    for tile in getattr(image, "tile", ()):
        arguments = tile[-1] if isinstance(tile[-1], tuple) else (tile[-1],)
        if any(re.search(r";16[BLN]$", part) for part in arguments if isinstance(part, str)):
            return True
        if image.format == "PPM" and isinstance(arguments[-1], int) and arguments[-1] > 255:
            return True
    return False


def _decoding(where: str) -> as_error:
    return as_error(ImageError, "the file cannot be read as an image", where)
