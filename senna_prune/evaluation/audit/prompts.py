"""A host model with its processor, and what it is asked when its attention is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, PretrainedConfig

from senna_prune.errors import CheckpointError, InputError, SampleError, as_error
from senna_prune.files import confined
from senna_prune.image_files import open_image
from senna_prune.model.checkpoint import load_senna
from senna_prune.model.processing import SennaProcessor
from senna_prune.task.labels import CAMERAS, CORRECTED, Command, view_label
from senna_prune.task.objects import SeenObject
from senna_prune.task.prompts import image_prompt, planning_prompt, planning_question
from senna_prune.task.sample import PlanningSample, read_samples

SENNA = ("senna", "llava_llama")
"""What `model_type` is in Senna's checkpoints, ours and released."""
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff", ".gif")
QUESTION = "What in this image matters most to the driver?"


@dataclass(frozen=True)
class Asked:
    """One prompt before it is read.

    Attributes:
        name: of the sample or the first image file.
        kind: of the question; "images" for a folder of images.
        scene: cluster of the statistics.
        question: with an `<image>` marker per image.
        paths: of the images, by camera or number, in the order of the markers.
        objects: that they show; None: not known.
    """

    name: str
    kind: str
    scene: str
    question: str
    paths: dict[str, Path]
    objects: tuple[SeenObject, ...] | None = None


def load_host(source: str | Path, dtype: str, device: str) -> tuple[Any, Any]:
    """A model of any host and its processor.

    Raises:
        CheckpointError, InputError: it cannot be loaded.
    """
    with as_error(CheckpointError, "cannot be used", source):
        kind = PretrainedConfig.get_config_dict(source)[0].get("model_type")
    if kind in SENNA:
        return load_senna(source, dtype, device)
    with as_error(CheckpointError, "cannot be used", source):
        processor = AutoProcessor.from_pretrained(source)
        model: Any = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype)
    return model.to(device).eval(), processor


def samples_asked(path: Path, root: Path, limit: int) -> list[Asked]:
    """`limit` questions of each kind, spread over a planning set; raises SampleError as reading it does."""
    found: dict[str, list[PlanningSample]] = {}
    for sample in read_samples(path):
        found.setdefault(sample.kind, []).append(sample)
    return [
        Asked(
            sample.key,
            sample.kind,
            sample.scene,
            sample.question,
            {camera: confined(root, sample.images[camera], SampleError) for camera in sample.cameras},
            sample.objects,
        )
        for group in found.values()
        for sample in group[:: max(1, len(group) // limit)][:limit]  # spread over the scenes
    ]


def images_asked(folder: Path, cameras: Sequence[str], question: str | None, limit: int) -> list[Asked]:
    """Prompts of a folder of images.

    Args:
        folder: searched with all folders in it.
        cameras: of a frame, in the order of the model's labels; the file name or its folder names the camera, and files
            are paired by their order. None: each image is a prompt of its own.
        question: what is asked; if absent, Senna's plan at 5 m/s or `QUESTION`.
        limit: of prompts.

    Raises:
        InputError: there are no images, or not as many of each camera.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    if cameras:
        named = [[path for path in files if _shows(path, camera)] for camera in cameras]
        if len({len(own) for own in named}) > 1:
            counts = ", ".join(f"{len(own)} of {camera}" for camera, own in zip(cameras, named, strict=True))
            raise InputError(f"the cameras have different numbers of images: {counts}", where=folder)
        frames = [dict(zip(cameras, paths, strict=True)) for paths in zip(*named, strict=True)]
        labels = tuple(map(view_label, cameras))
        asked = image_prompt(labels) + question if question else planning_question(5.0, Command.STRAIGHT.value, labels)
    else:
        frames, asked = [{"0": path} for path in files], f"<image>\n{question or QUESTION}"
    if not frames:
        problem = f"no images whose names tell the camera, such as {cameras[0]}" if cameras else "no images"
        raise InputError(problem, where=folder)
    return [
        Asked(str(next(iter(one.values()))), "images", str(number), asked, one)
        for number, one in enumerate(frames[:limit])
    ]


def _shows(path: Path, camera: str) -> bool:
    return camera in (path.stem, path.parent.name) or f"__{camera}__" in path.name


def cameras_of(model: Any) -> tuple[str, ...]:
    """A Senna's cameras in the order of the prompt's labels; empty for other models."""
    names = getattr(model.config, "camera_names", ())
    return CORRECTED.camera_order if names == CAMERAS else tuple(names)


def model_inputs(processor: Any, asked: Asked) -> tuple[Any, list[Image.Image]]:
    """What the model reads, and the images.

    Raises:
        InputError, ImageError: the processor refuses the question, or an image is unusable.
    """
    images = [open_image(path) for path in asked.paths.values()]
    if isinstance(processor, SennaProcessor):
        return processor(planning_prompt(asked.question), images), images
    with as_error(InputError, "the processor cannot read it", asked.name):
        if getattr(processor, "chat_template", None):
            message = [{"role": "user", "content": list(_parts(asked.question))}]
            text = processor.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        else:
            text = asked.question.replace("<image>", processor.image_token)
        return processor(images=images, text=text, return_tensors="pt"), images


def _parts(question: str) -> Iterator[dict[str, str]]:
    """Text and image parts of a chat message."""
    first, *rest = question.split("<image>")
    for text in (first, *rest):
        if text is not first:
            yield {"type": "image"}
        if text.strip():
            yield {"type": "text", "text": text}
