"""`SennaProcessor`: prompts and camera images to model inputs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from senna_prune.errors import InputError, as_error, one_of
from senna_prune.image_files import AnyImage, open_image
from senna_prune.model.configuration import SennaConfig
from senna_prune.task.prompts import IMAGE_MARKER

PaddingSide = Literal["left", "right"]
AspectRatio = Literal["pad", "plain"]
Preprocess = Literal["exact", "device"]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
PAD_COLOUR = (122, 116, 104)
"""`MEAN` in 8 bit, rounded down."""
MOST_OFF = 2
"""Largest difference of an 8-bit value between the two ways of resizing."""
_PIXEL_VALUES = (
    (np.arange(256)[:, None] * (1 / 255)).astype(np.float32) - np.array(MEAN, dtype=np.float32)
) / np.array(STD, dtype=np.float32)
"""Pixel value of every 8-bit number, by channel, shape (256, 3): looking it up is the same as computing it."""


class SennaProcessor(ProcessorMixin):
    """Tokenises prompts chunk by chunk and turns images into pixel values.

    Args:
        tokenizer: the checkpoint's sentencepiece tokenizer.
        image_size: side of the square the vision tower sees, pixels.
        image_aspect_ratio: `pad` (as the released model was trained) or `plain`.
        num_views: images per frame.
        num_view_tokens: placeholders per image.
        image_token_id: id of the placeholder; outside the vocabulary, never decoded.

    Raises:
        InputError: unknown `image_aspect_ratio`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_size: int = 336,
        image_aspect_ratio: AspectRatio = "pad",
        num_views: int = 6,
        num_view_tokens: int = 128,
        image_token_id: int = 32000,
        chat_template: str | None = None,
    ) -> None:
        super().__init__(tokenizer, chat_template=chat_template)
        one_of(image_aspect_ratio, get_args(AspectRatio), "processor", "image_aspect_ratio", InputError)
        self.image_size = image_size
        self.image_aspect_ratio = image_aspect_ratio
        self.num_views = num_views
        self.num_view_tokens = num_view_tokens
        self.image_token_id = image_token_id

    @classmethod
    def for_config(
        cls, config: SennaConfig, tokenizer: PreTrainedTokenizerBase, image_aspect_ratio: AspectRatio = "pad"
    ) -> SennaProcessor:
        """The processor that fits a model."""
        return cls(
            tokenizer,
            image_size=config.vision_config.image_size,
            image_aspect_ratio=image_aspect_ratio,
            num_views=config.num_views,
            num_view_tokens=config.num_view_tokens,
            image_token_id=config.image_token_id,
        )

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        images: Sequence[Any] | None = None,
        padding_side: PaddingSide = "left",
    ) -> BatchFeature:
        """Model inputs of one prompt or of a batch.

        Args:
            text: full prompts (see `planning_prompt`) with one `<image>` marker per view, or None for images alone.
            images: per prompt its views (`AnyImage`) in the order of the markers; a single prompt takes a single list.
            padding_side: where shorter prompts of a batch are padded; `generate` needs "left".

        Returns:
            input_ids and attention_mask of shape (B, S), int64, and pixel_values of shape (B, views, 3, H, W), float32.

        Raises:
            InputError: numbers of prompts, markers and images that do not match; a prompt beyond the context limit.
            ImageError: an unusable image.
        """
        features: dict[str, Tensor] = {}
        prompts = [text] if isinstance(text, str) else list(text) if text is not None else None
        frames = images
        if images is not None and isinstance(text, str) and not (images and isinstance(images[0], list | tuple)):
            frames = [images]
        if prompts is not None:
            if frames is not None and len(frames) != len(prompts):
                raise InputError(f"{len(prompts)} prompts but images of {len(frames)} frames were given")
            rows = [self.encode_prompt(prompt) for prompt in prompts]
            features["input_ids"], features["attention_mask"] = self.pad(rows, padding_side)
        if frames is not None:
            features["pixel_values"] = torch.stack([self.encode_views(views) for views in frames])
        return BatchFeature(features)

    def encode_prompt(self, prompt: str) -> Tensor:
        """Ids of one prompt with `num_view_tokens` placeholders per `<image>` marker, shape (S,), int64.

        Every chunk between markers is tokenised on its own, so a chunk after an image starts with the dummy-prefix
        piece: that is how the model was trained. One BOS stands before the first chunk.

        Raises:
            InputError: the number of markers is neither 0 nor the number of views, or the prompt is too long.
        """
        if not isinstance(prompt, str):
            raise InputError(f"a {type(prompt).__name__} is no prompt", where="text", hint="pass text")
        chunks = prompt.split(IMAGE_MARKER)
        if len(chunks) - 1 not in (0, self.num_views):
            raise InputError(f"the prompt holds {len(chunks) - 1} {IMAGE_MARKER} markers, expected {self.num_views}")
        ids: list[int] = [self.tokenizer.bos_token_id]
        for number, chunk in enumerate(chunks):
            if number:
                ids += [self.image_token_id] * self.num_view_tokens
            with as_error(InputError, "the prompt cannot be tokenised", "text"):
                ids += self.tokenizer(chunk, add_special_tokens=False).input_ids
        limit = self.tokenizer.model_max_length
        if len(ids) > limit:
            raise InputError(f"the prompt has {len(ids)} tokens, the limit is {limit}", hint="shorten the question")
        return torch.tensor(ids)

    def encode_views(
        self, views: Sequence[AnyImage], names: Sequence[str] | None = None, device: torch.device | None = None
    ) -> Tensor:
        """Pixel values of one frame, shape (views, 3, H, W).

        Args:
            views: its images, in the order of the markers.
            names: what an error calls each image that has no path; default "view 0" and so on.
            device: where to resize, near to what Pillow does (`pixel_values_on`); None: by Pillow, exactly.

        Raises:
            InputError: not one image per view, or one that is no image.
            ImageError: an unusable image.
        """
        if isinstance(views, str) or len(views) != self.num_views:
            raise InputError(f"{len(views)} images were given for {self.num_views} views", where="images")
        return pixel_values_of(views, self.image_size, self.image_aspect_ratio, names, device)

    def pad(self, rows: Sequence[Tensor], padding_side: PaddingSide = "left") -> tuple[Tensor, Tensor]:
        """Rows of ids to input_ids and attention_mask, both of shape (B, S).

        Raises:
            InputError: no rows, or an unknown side.
        """
        if not rows:
            raise InputError("no prompts were given")
        one_of(padding_side, get_args(PaddingSide), "processor", "padding_side", InputError)
        pad_id = self.tokenizer.pad_token_id
        if pad_id is None:
            pad_id = self.tokenizer.unk_token_id
        ones = [torch.ones_like(row) for row in rows]
        return pad_sequence([*rows], True, pad_id, padding_side), pad_sequence(ones, True, 0, padding_side)


def pixel_values_of(
    views: Sequence[AnyImage],
    size: int,
    aspect_ratio: AspectRatio = "pad",
    names: Sequence[str] | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Pixel values of one frame, its images in parallel threads, shape (views, 3, size, size).

    Args:
        size: side of the square the vision tower sees, pixels.
        views, aspect_ratio, names, device: as for `SennaProcessor` and its `encode_views`.

    Raises:
        InputError, ImageError: as `open_image`.
    """
    names = names or [f"view {number}" for number in range(len(views))]
    # One PIL image may stand for several views, and loads lazily: not a thing to do in several threads.
    views = [
        open_image(view, name) if isinstance(view, Image.Image) else view
        for view, name in zip(views, names, strict=True)
    ]

    def encode(view: AnyImage, name: str) -> Tensor:
        image = open_image(view, name)
        if device is None:
            return to_pixel_values(image, size, aspect_ratio)
        return pixel_values_on(device, image, size, aspect_ratio)

    return torch.stack(list(_threads(os.getpid()).map(encode, views, names)))


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    """A thread per core, but six at least, for files on slow disks: PIL decodes and resizes without holding the
    interpreter. They are kept, because starting them takes longer than small images do; a forked process needs its
    own."""
    return ThreadPoolExecutor(max(6, os.cpu_count() or 1), "images")


# One image: in the arithmetic of the released model (PIL on 8-bit values), or near it


def to_pixel_values(image: Image.Image, size: int, aspect_ratio: AspectRatio) -> Tensor:
    """Pixel values of shape (3, size, size), float32.

    `pad` centres the image on a square of `PAD_COLOUR` and resizes that; `plain` resizes the shorter side and crops
    the centre. Both as the reference's CLIPImageProcessor does, rounding to 8 bit after the resize.
    """
    small = _pad_and_resize(image, size) if aspect_ratio == "pad" else _crop_centre(image, size)
    values = np.empty((3, size, size), dtype=np.float32)
    for channel, band in enumerate(small.split()):
        np.take(_PIXEL_VALUES[:, channel], np.asarray(band), out=values[channel], mode="clip")
    return torch.from_numpy(values)


def pixel_values_on(device: torch.device, image: Image.Image, size: int, aspect_ratio: AspectRatio) -> Tensor:
    """As `to_pixel_values`, resized on `device` by torch's antialiased bicubic filter.

    It is Pillow's filter with weights in floating point: an 8-bit value differs by `MOST_OFF` at most.
    """
    width, height = image.size
    pixels = torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1).float()
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


def _pad_and_resize(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    side = max(width, height)
    canvas, left = side, (side - width) // 2
    if width > height:
        # Pillow resizes along rows first, then along columns, and a row of one colour keeps it. Resizing along rows
        # before padding gives the same bytes and leaves out the rows of padding.
        image, canvas = image.resize((size, height), Image.Resampling.BICUBIC), size
    square = Image.new("RGB", (canvas, side), PAD_COLOUR)
    square.paste(image, (left, (side - height) // 2))
    return square.resize((size, size), Image.Resampling.BICUBIC)


def _crop_centre(image: Image.Image, size: int) -> Image.Image:
    short = min(image.size)
    width, height = (int(size * side / short) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return resized.crop((left, top, left + size, top + size))
