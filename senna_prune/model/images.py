"""Camera images to pixel values: in the arithmetic of the released model (PIL on 8-bit values), or near it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

AspectRatio = Literal["pad", "plain"]
Preprocess = Literal["exact", "device"]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
PAD_COLOUR = (122, 116, 104)
"""`MEAN` in 8 bit, rounded down."""


_PIXEL_VALUES = (
    (np.arange(256)[:, None] * (1 / 255)).astype(np.float32) - np.array(MEAN, dtype=np.float32)
) / np.array(STD, dtype=np.float32)
"""Pixel value of every 8-bit number, by channel, shape (256, 3): looking it up is the same as computing it."""


def to_pixel_values(picture: Image.Image, size: int, aspect_ratio: AspectRatio) -> Tensor:
    """Pixel values of shape (3, size, size), float32.

    `pad` centres the image on a square of `PAD_COLOUR` and resizes that; `plain` resizes the shorter side and crops
    the centre. Both as the reference's CLIPImageProcessor does, rounding to 8 bit after the resize.
    """
    small = _pad_and_resize(picture, size) if aspect_ratio == "pad" else _crop_centre(picture, size)
    values = np.empty((3, size, size), dtype=np.float32)
    for channel, band in enumerate(small.split()):
        np.take(_PIXEL_VALUES[:, channel], np.asarray(band), out=values[channel], mode="clip")
    return torch.from_numpy(values)


def pixel_values_on(device: torch.device, picture: Image.Image, size: int, aspect_ratio: AspectRatio) -> Tensor:
    """As `to_pixel_values`, resized on `device` by torch's antialiased bicubic filter.

    It is Pillow's filter with weights in floating point: an 8-bit value differs by `MOST_OFF` at most.
    """
    width, height = picture.size
    pixels = torch.from_numpy(np.array(picture)).to(device).permute(2, 0, 1).float()
    if aspect_ratio == "pad":
        side = max(width, height)
        left, top, wanted = (side - width) // 2, (side - height) // 2, (size, size)
        square = torch.tensor(PAD_COLOUR, device=device).float()[:, None, None].repeat(1, side, side)
        square[:, top : top + height, left : left + width] = pixels
        pixels = square
    else:
        short = min(width, height)
        wanted = int(size * height / short), int(size * width / short)
    # As Pillow does it: along rows, to 8 bit, then along columns.
    rows = F.interpolate(pixels[None], (pixels.shape[1], wanted[1]), mode="bicubic", antialias=True)
    rows = rows.round_().clamp_(0, 255)
    small = F.interpolate(rows, wanted, mode="bicubic", antialias=True)[0].round_().clamp_(0, 255)
    top, left = (wanted[0] - size) // 2, (wanted[1] - size) // 2
    small = small[:, top : top + size, left : left + size] / 255
    mean, std = (torch.tensor(numbers, device=device)[:, None, None] for numbers in (MEAN, STD))
    return (small - mean) / std


MOST_OFF = 2
"""Largest difference of an 8-bit value between the two ways of resizing."""


def _pad_and_resize(picture: Image.Image, size: int) -> Image.Image:
    width, height = picture.size
    side = max(width, height)
    canvas, left = side, (side - width) // 2
    if width > height:
        # Pillow resizes along rows first, then along columns, and a row of one colour keeps it. Resizing along rows
        # before padding gives the same bytes and leaves out the rows of padding.
        picture, canvas = picture.resize((size, height), Image.Resampling.BICUBIC), size
    square = Image.new("RGB", (canvas, side), PAD_COLOUR)
    square.paste(picture, (left, (side - height) // 2))
    return square.resize((size, size), Image.Resampling.BICUBIC)


def _crop_centre(picture: Image.Image, size: int) -> Image.Image:
    short = min(picture.size)
    width, height = (int(size * side / short) for side in picture.size)
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return resized.crop((left, top, left + size, top + size))
