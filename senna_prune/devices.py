"""The device that a setting names, if this machine has it."""

from __future__ import annotations

import torch

from senna_prune.errors import InputError


def find_device(name: str, where: str) -> torch.device:
    """`auto` is the current CUDA device where there is one, else the CPU; `cuda` is the current CUDA device.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1", ...
        where: the setting it comes from.

    Raises:
        InputError: no such device here.
    """
    cuda = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if cuda else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"{name!r} is no device", where=where, hint="use auto, cpu, cuda or cuda:0") from error
    if device.type == "cuda" and not cuda:
        raise InputError("there is no CUDA device here", where=where, hint="use cpu or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise InputError(f"there is no {name}, only {count} CUDA devices", where=where, hint="use a lower number")
    if device.type not in ("cpu", "cuda"):
        try:
            torch.ones(1, device=device).item()
        except (RuntimeError, AssertionError, ImportError) as error:
            raise InputError(f"{name} computes nothing here", where=where, hint="use cpu or auto") from error
    # Every process of a launch has made one device its own.
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else device
