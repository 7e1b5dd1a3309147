"""Settings that name a device."""

from __future__ import annotations

import pytest
import torch

from senna_prune.devices import find_device
from senna_prune.errors import InputError


def pretend(monkeypatch: pytest.MonkeyPatch, count: int, current: int = 0) -> None:
    """A machine with so many CUDA devices."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)


def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 0)
    assert find_device("auto", "device") == find_device("cpu", "device") == torch.device("cpu")
    pretend(monkeypatch, 2, current=1)
    assert find_device("auto", "device") == find_device("cuda", "device") == torch.device("cuda:1")
    assert find_device("cuda:0", "device") == torch.device("cuda:0")


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("gpu", 0, "model.device: 'gpu' is no device. Use auto"),
        ("cuda", 0, "model.device: there is no CUDA device here. Use cpu"),
        ("cuda:2", 2, "model.device: there is no cuda:2, only 2 CUDA devices"),
        ("meta", 0, "model.device: meta computes nothing here. Use cpu or auto"),
        ("hpu", 0, "model.device: hpu computes nothing here"),
    ],
)
def test_absent_devices_are_named(monkeypatch: pytest.MonkeyPatch, name: str, count: int, message: str) -> None:
    pretend(monkeypatch, count)
    with pytest.raises(InputError) as caught:
        find_device(name, "model.device")
    assert str(caught.value).startswith(message)
