"""Camera pictures to pixel values, in the arithmetic of the released model: PIL resizing on 8-bit values."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

AspectRatio = Literal["pad", "plain"]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
PAD_COLOUR = (122, 116, 104)
"""`MEAN` in 8 bit, rounded down."""


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
