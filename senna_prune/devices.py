"""The device that a setting names, if this machine has it, and whether weights fit into its memory."""

from __future__ import annotations

import os

import torch

from senna_prune.errors import ConfigError, InputError


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


def require_memory(needed: int, device: torch.device) -> None:
    """Refuse weights of more bytes than the device has in all.

    Raises:
        ConfigError: there are.
    """
    if device.type == "cuda":
        available = torch.cuda.get_device_properties(device).total_memory
    else:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > available:
        problem = f"weights of {needed / 2**30:,.0f} GiB do not fit into {available / 2**30:,.0f} GiB of memory"
        raise ConfigError(problem, where="host", hint="use fewer layers, smaller widths or a smaller dtype")
