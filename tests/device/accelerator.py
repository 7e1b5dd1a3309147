"""An accelerator that is none: tensors that claim a device while their numbers stay in main memory.

An operation on tensors of two devices fails, as on CUDA; what the host reads and what it uploads is counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME, HOST = "pretended", torch.device("cpu")
COPIES = ("_to_copy", "to", "copy_")
WAITING = ("nonzero", "masked_select", "_unique2", "bincount", "_local_scalar_dense", "item", "is_nonzero", "equal")
"""Operations whose value, or whose result's shape, the host waits for."""


class OnDevice(Tensor):
    """A tensor on the pretended device; `inner` holds its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, device: torch.device) -> OnDevice:
        layout = (inner.shape, inner.stride(), inner.storage_offset())
        with torch.inference_mode(False):  # views inside and outside of that mode then work alike
            made: Any = Tensor._make_wrapper_subclass(cls, *layout, dtype=inner.dtype, device=device)
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, Counter())

    def tolist(self) -> Any:
        return self.to(HOST).tolist()

    def __format__(self, spec: str) -> str:
        return format(self.to(HOST), spec)

    __repr__ = object.__repr__


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], counts: Counter[str]) -> Any:
    tensors: list[Any] = []
    named: list[torch.device] = []

    def inner(value: Any) -> Any:
        """`value` without claims; notes tensors and devices."""
        if isinstance(value, Tensor):
            tensors.append(value)
            return value.inner if isinstance(value, OnDevice) else value
        if isinstance(value, torch.device):
            named.append(value)
            return HOST
        return type(value)(map(inner, value)) if type(value) in (list, tuple) else value

    inner_args = [inner(value) for value in args]
    made = func(*inner_args, **{name: inner(value) for name, value in kwargs.items()})
    name = func.overloadpacket.__name__
    # A single number on the host may meet tensors of any device, as on CUDA.
    devices = {tensor.device for tensor in tensors if type(tensor) is OnDevice or tensor.ndim}
    if name == "index" and len(devices) == 2 and HOST in devices and tensors[0].device != HOST:
        devices = {tensors[0].device}  # CUDA copies indices itself
        counts["uploads"] += 1
    if len(devices) > 1 and name not in COPIES:
        raise RuntimeError(f"{name}: tensors on {' and '.join(sorted(map(str, devices)))}")
    if name == "copy_" or (name == "to" and len(tensors) > 1):
        target = tensors[0 if name == "copy_" else 1].device
    else:
        target = named[0] if named else next(iter(devices), HOST)
    if tensors:
        source = tensors[1 if name == "copy_" else 0]
        by_mask = name.startswith("index") and any(t.dtype == torch.bool for t in tensors[1:])
        if name in COPIES and source.device != target and source.numel():
            counts["uploads" if source.device == HOST else "reads" if target == HOST else "transfers"] += 1
        elif source.device != HOST and (name in WAITING or by_mask):
            counts["reads"] += 1
    if target == HOST:
        return made
    known = {id(tensor.inner): tensor for tensor in tensors if type(tensor) is OnDevice and tensor.device == target}
    return tree_map_only(Tensor, lambda own: known[id(own)] if id(own) in known else OnDevice(own, target), made)


class _Event:
    """An event of the device, which does its work at once."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: object) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        """Nothing is to be waited for."""

    def elapsed_time(self, other: _Event) -> float:
        return 1e3 * (other.time - self.time)


class _Backend(_DummyBackendModule):
    Event = _Event

    def current_stream(self, device: torch.device) -> None:
        """There is one."""


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self.counts)


@cache
def _library() -> torch.library.Library:
    return torch.library.Library("aten", "IMPL")


@cache
def device(number: int = 0) -> torch.device:
    """One of the pretended devices."""
    if torch._C._get_privateuse1_backend_name() != NAME:
        _setup_privateuseone_for_python_backend(NAME, _Backend())
        # `torch.tensor` of a list of tensors asks the device itself.
        _library().impl("_local_scalar_dense", lambda tensor: tensor.inner.item(), "PrivateUse1")
    return torch.device(NAME, number)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Inside, work may run on the devices; yields counts of host `reads`, `uploads` and `transfers` between devices."""
    attend = nn.functional.scaled_dot_product_attention

    @wraps(attend)
    def attention(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Any:
        # In one piece: torch would take it apart, since no kernel of it is known for this device.
        def fused(*tensors: Tensor, mask: Tensor | None = None) -> Tensor:
            return attend(*tensors, **options | {"attn_mask": mask})

        fused.overloadpacket = attend  # type: ignore[attr-defined]
        return _run(fused, (query, key, value), {"mask": options.pop("attn_mask", None)}, Counter())

    nn.functional.scaled_dot_product_attention = attention
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor(..., device=...)` is then a copy that can be seen
    try:
        with torch.inference_mode(), _Counting() as mode:
            yield mode.counts
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
        nn.functional.scaled_dot_product_attention = attend


def place(module: nn.Module, number: int = 0) -> Any:
    """Move a module's weights to a device, in place."""
    where = device(number)

    def on(tensor: Tensor) -> Tensor:
        return OnDevice(tensor.inner if isinstance(tensor, OnDevice) else tensor.detach(), where)

    for part in module.modules():
        for name, weight in part._parameters.items():
            part._parameters[name] = None if weight is None else nn.Parameter(on(weight), requires_grad=False)
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else on(buffer)
    return module


def dispatch(model: nn.Module, places: Mapping[str, int]) -> Any:
    """Move parts of a model, and let each move its inputs along, as accelerate does (`device_map`).

    Args:
        places: device number by a submodule's name; a later one may lie inside an earlier one.
    """
    for name, number in places.items():
        place(model.get_submodule(name), number)
    for part in model.modules():
        devices = {weight.device for weight in (*part.parameters(), *part.buffers())}
        if len(devices) == 1 and part is not model:
            _follow(part, devices.pop())
    return model


def _follow(part: nn.Module, where: torch.device) -> None:
    forward = part.forward

    def moved(value: Any) -> Any:
        return tree_map_only(Tensor, lambda tensor: tensor.to(where), value)

    @wraps(forward)
    def call(*args: Any, **kwargs: Any) -> Any:
        sent = {key: value if key == "past_key_values" else moved(value) for key, value in kwargs.items()}
        return forward(*moved(args), **sent)

    part.forward = call  # type: ignore[method-assign]
