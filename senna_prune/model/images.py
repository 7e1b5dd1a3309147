"""Camera pictures to pixel values, in the arithmetic of the released model: PIL resizing on 8-bit values."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from senna_prune.errors import ImageError, InputError

Picture = Image.Image | np.ndarray | str | PathLike[str]
"""A camera picture: PIL image, numpy array (H, W, 3) or (H, W) of uint8, or a path."""
AspectRatio = Literal["pad", "plain"]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
PAD_COLOUR = (122, 116, 104)
"""`MEAN` in 8 bit, rounded down."""

_DEEP_MODES = ("I", "F")


def open_picture(picture: Picture, where: str = "image") -> Image.Image:
    """An upright 8-bit RGB picture.

    Greyscale becomes three equal channels, transparency is dropped. An EXIF orientation is applied, so that the model
    sees the picture as a viewer shows it (deviation: the reference ignores the tag; nuScenes files carry none).

    Args:
        picture: the picture.
        where: what an error names when the picture has no path.

    Raises:
        ImageError: unreadable or truncated file, zero size, more than 8 bits per channel.
        InputError: not a picture at all, or an array of another type or shape.
    """
    if isinstance(picture, np.ndarray):
        picture = _from_array(picture, where)
    elif isinstance(picture, str | PathLike):
        where = str(picture)
        picture = _from_file(Path(picture))
    elif not isinstance(picture, Image.Image):
        raise InputError(
            f"{type(picture).__name__} is not a picture",
            where=where,
            mend="pass a PIL image, a uint8 array of shape (height, width, 3) or a path",
        )
    if 0 in picture.size:
        raise ImageError(f"the picture is empty ({picture.width}x{picture.height})", where=where)
    if picture.mode.split(";")[0] in _DEEP_MODES:
        raise ImageError(
            f"the picture has more than 8 bits per channel (mode {picture.mode})",
            where=where,
            mend="tone-map it to 8 bit first; clipping it here would hide most of it",
        )
    try:
        return ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"the picture cannot be decoded ({error})", where=where) from error


def _from_file(path: Path) -> Image.Image:
    try:
        picture = Image.open(path)
        picture.load()
    except FileNotFoundError as error:
        raise ImageError("no such image file", where=path, mend="check the image root") from error
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"the file cannot be read as an image ({error})", where=path) from error
    return picture


def _from_array(array: np.ndarray, where: str) -> Image.Image:
    mend = "pass a uint8 array of shape (height, width, 3)"
    if array.dtype != np.uint8:
        raise InputError(f"the array holds {array.dtype}, not uint8", where=where, mend=mend)
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] != 3):
        raise InputError(f"the array has shape {array.shape}", where=where, mend=mend)
    if 0 in array.shape:
        raise ImageError(f"the picture is empty ({array.shape[1]}x{array.shape[0]})", where=where)
    return Image.fromarray(array)


def to_pixel_values(picture: Image.Image, size: int, aspect_ratio: AspectRatio) -> Tensor:
    """Pixel values of shape (3, size, size), float32.

    `pad` centres the picture on a square of `PAD_COLOUR` and resizes that; `plain` resizes the shorter side and crops
    the centre. Both as the reference's CLIPImageProcessor does, rounding to 8 bit after the resize.
    """
    if aspect_ratio == "pad":
        picture = _expand_to_square(picture).resize((size, size), Image.Resampling.BICUBIC)
    else:
        picture = _crop_centre(picture, size)
    scaled = (np.asarray(picture) * (1 / 255)).astype(np.float32)
    normalised = (scaled - np.array(MEAN, dtype=np.float32)) / np.array(STD, dtype=np.float32)
    return torch.from_numpy(normalised.transpose(2, 0, 1).copy())


def _expand_to_square(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    if width == height:
        return picture
    side = max(width, height)
    square = Image.new("RGB", (side, side), PAD_COLOUR)
    square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return square


def _crop_centre(picture: Image.Image, size: int) -> Image.Image:
    short = min(picture.size)
    width, height = (int(size * side / short) for side in picture.size)
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return resized.crop((left, top, left + size, top + size))
