"""What a caller hands to the `Planner`, checked: settings, cameras, speed and command."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import get_args

import torch

from senna_prune.errors import InputError, one_of, require
from senna_prune.image_files import AnyImage
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.processing import SennaProcessor
from senna_prune.task.labels import CAMERAS, CameraOrder, Command, Convention, Readout
from senna_prune.task.prompts import planning_question


def check_settings(
    model: object, processor: object, pruner: object, readout: object, system: object, max_new_tokens: object
) -> None:
    """Check the settings of a `Planner` that nothing else checks.

    Raises:
        InputError: one is of the wrong type or out of range.
    """
    require(isinstance(model, SennaForConditionalGeneration), "model", model, "a SennaForConditionalGeneration")
    require(isinstance(processor, SennaProcessor), "processor", processor, "a SennaProcessor")
    if pruner is not None:
        require_pruner(pruner)
    one_of(readout, get_args(Readout), "readout", "readout", InputError)
    require(isinstance(system, str), "system", system, "the name of a system sentence")
    whole = isinstance(max_new_tokens, int) and not isinstance(max_new_tokens, bool) and max_new_tokens >= 1
    require(whole, "max_new_tokens", max_new_tokens, "a number of tokens, 1 or more")


def require_pruner(pruner: object) -> None:
    """Refuse what is neither a `Pruner` nor acts as one.

    Raises:
        InputError: it has not the parts of one.
    """
    acts = hasattr(pruner, "select") and hasattr(pruner, "needs")
    require(acts, "pruner", pruner, "a Pruner, which pruner_for builds")


def require_dtype(dtype: torch.dtype, device: torch.device) -> None:
    """Refuse to run a model in half precision under an autocast to another type, which torch cannot mix.

    Raises:
        InputError: it would.
    """
    if not torch.is_autocast_enabled(device.type):
        return
    target = torch.get_autocast_dtype(device.type)
    if dtype not in (torch.float32, target):
        raise InputError(f"autocast to {target} of a model in {dtype}", hint="leave the autocast context")


def views_in_order(images: Mapping[str, AnyImage], cameras: Sequence[str]) -> list[AnyImage]:
    """The images in the order of `cameras`.

    Raises:
        InputError: not a mapping of exactly these cameras, or the checkpoint names none.
    """
    if not cameras:
        hint = "name them in config.json (cameras), in the order of the prompt's labels"
        raise InputError(
            "the checkpoint does not name its cameras, which are not nuScenes' six", where="model", hint=hint
        )
    if not isinstance(images, Mapping):
        raise InputError(
            f"a {type(images).__name__} does not say which image is whose",
            where="images",
            hint="pass a mapping of camera channels to images",
        )
    if missing := [camera for camera in cameras if camera not in images]:
        raise InputError(f"no image of {', '.join(missing)}", where="images", hint="pass all cameras")
    if unknown := [camera for camera in images if camera not in cameras]:
        raise InputError(f"unknown camera {unknown[0]!r}", where="images", hint=f"use {', '.join(cameras)}")
    return [images[camera] for camera in cameras]


def cameras_of(model: SennaForConditionalGeneration, convention: CameraOrder) -> tuple[str, ...]:
    """The cameras whose images stand under the prompt's labels, in their order; none where nobody names them.

    Raises:
        SampleError: unknown convention.
        InputError: the order of the released converter, for other cameras than nuScenes' six.
    """
    order, names = Convention(cameras=convention).camera_order, model.config.camera_names
    if names == CAMERAS:
        return order
    if convention != "corrected":
        raise InputError("the order 'upstream' is one of nuScenes' six cameras", where="convention", hint="'corrected'")
    return names


def checked_question(speed: float, command: Command | str, labels: Sequence[str]) -> str:
    """The planning question.

    Args:
        speed: ego speed, m/s.
        command: navigation command.
        labels: of the views.

    Raises:
        InputError: a speed that is not a finite number of 0 or more, or an unknown command.
    """
    is_speed = isinstance(speed, Real) and not isinstance(speed, bool) and math.isfinite(speed) and speed >= 0
    require(is_speed, "speed", speed, "a speed in m/s", hint="pass a finite number, 0 or more")
    one_of(command, [known.value for known in Command], "command", "command", InputError)
    return planning_question(float(speed), Command(command).value, labels)
