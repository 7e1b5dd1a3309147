"""The device that a setting names, if this machine has it, and what goes to a device and comes back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import detect_fake_mode
from torch.utils.weak import WeakTensorKeyDictionary

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


def device_of(module: nn.Module, otherwise: torch.device | None = None) -> torch.device:
    """Where a module takes its inputs: the device of its first weight in memory, or on which accelerate runs the
    others, or `otherwise`.

    Raises:
        InputError: there is none of these: the module was built on the meta device.
    """
    places = [weight.device for weight in module.parameters() if not weight.is_meta]
    hooks = (getattr(getattr(part, "_hf_hook", None), "execution_device", None) for part in module.modules())
    found = next(iter(places), None) or next((place for place in hooks if place is not None), otherwise)
    if found is None:
        raise InputError("no weight is in memory, all are on the meta device", where="model", hint="use load_senna")
    return torch.device(found)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`; itself, without an operation, where it is there. From the host it does not wait."""
    return tensor if tensor.device == device else tensor.to(device, non_blocking=tensor.device.type == "cpu")


_COPIES = WeakTensorKeyDictionary()


def copied_once(tensor: Tensor, device: torch.device) -> Tensor:
    """As `moved`, for a tensor that nothing writes to: each device gets one copy, kept for as long as the tensor."""
    if tensor.device == device or detect_fake_mode():
        return moved(tensor, device)
    copies = _COPIES.setdefault(tensor, {})
    if device not in copies:
        with torch.inference_mode(False):
            copies[device] = moved(tensor, device)
    return copies[device]


def constant(values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers on a device, copied there when they are first asked for. Nothing may write to the result.

    Args:
        values: a number or nested tuples of numbers.
    """
    # While a graph is traced tensors hold no data, and none of them may be kept.
    make = _constant.__wrapped__ if detect_fake_mode() else _constant
    return make(values, dtype, device)


@lru_cache(maxsize=1024)
def _constant(values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a graph of gradients may hold it, too
        return moved(torch.tensor(values, dtype=dtype), device)


def read_together(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors on the host: it waits for their device once, however many they are."""
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return list(tensors)
    rows = [tensor.contiguous().flatten().view(torch.uint8) for tensor in tensors]
    read = torch.cat([moved(row, rows[0].device) for row in rows]).cpu().split([row.numel() for row in rows])
    # Copies begin at an address that fits any type.
    return [own.clone().view(tensor.dtype).view(tensor.shape) for own, tensor in zip(read, tensors, strict=True)]
