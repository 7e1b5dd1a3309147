"""The profile that turns milliseconds into a retention: written by a benchmark run, read by `Budget.milliseconds`."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

from senna_prune.benchmark.settings import BenchmarkConfig
from senna_prune.devices import find_device
from senna_prune.errors import ConfigError
from senna_prune.files import read_json, write_json
from senna_prune.model.checkpoint import checkpoint_digest
from senna_prune.pruning import Budget

SCHEMA_VERSION = 2
_AGAIN = "run senna-prune benchmark without milliseconds= again"


def profile_path(config: BenchmarkConfig) -> Path:
    return Path(config.output) / f"{config.name}_profile.json"


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's and its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.processor() or platform.machine()


def describe_machine(config: BenchmarkConfig) -> dict[str, Any]:
    """What times depend on beside the model."""
    return {
        "device": device_name(find_device(config.device, "device")),
        "threads": config.threads or torch.get_num_threads(),
        "dtype": config.dtype,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def describe_host(config: BenchmarkConfig) -> dict[str, Any]:
    """What tells the timed model from others: the digest of its checkpoint, or the shape of its random weights."""
    if config.host.checkpoint:
        return {"checkpoint": checkpoint_digest(config.host.checkpoint)}
    return {name: value for name, value in asdict(config.host).items() if name != "checkpoint"}


def write_profile(config: BenchmarkConfig, points: dict[str, dict[float, float]]) -> Path:
    """Save measured prefill milliseconds (p50) by method and retention, with what they hold for."""
    path = profile_path(config)
    record = {
        "schema": SCHEMA_VERSION,
        "machine": describe_machine(config),
        "host": describe_host(config),
        "prefill_milliseconds": {
            method: [[retention, ms] for retention, ms in sorted(values.items())] for method, values in points.items()
        },
    }
    write_json(path, record)
    return path


def read_profile(path: Path, method: str, config: BenchmarkConfig | None = None) -> dict[float, float]:
    """Milliseconds by retention of one method, as `Budget.milliseconds` takes them.

    Args:
        config: machine and model that they are wanted for; None: this machine, any model.

    Raises:
        ConfigError: the file is absent, no profile, of another machine or model, or does not know the method.
    """
    if not path.exists():
        raise ConfigError("no profile yet", where=path, hint="run senna-prune benchmark without milliseconds= first")
    record = read_json(path, hint=f"it is not a profile; {_AGAIN}", error=ConfigError)
    measured, machine, host = (record.get(name) for name in ("prefill_milliseconds", "machine", "host"))
    if record.get("schema") != SCHEMA_VERSION or not all(isinstance(one, dict) for one in (measured, machine, host)):
        raise ConfigError("not a profile of this version", where=path, hint=_AGAIN)
    if config is not None:
        _same("machine", machine, describe_machine(config), path)
        _same("model", host, describe_host(config), path)
    else:
        here = [device_name(torch.device("cpu")), *map(torch.cuda.get_device_name, range(torch.cuda.device_count()))]
        if machine.get("device") not in here:
            _same("machine", machine, machine | {"device": here[0]}, path)
    if method not in measured:
        raise ConfigError(f"the profile does not know method {method!r}", where=path, hint="benchmark that method")
    if not isinstance(measured[method], list) or not all(map(_is_point, measured[method])):
        raise ConfigError(f"the times of {method!r} are no list of [retention, milliseconds]", where=path, hint=_AGAIN)
    return {float(retention): float(ms) for retention, ms in measured[method]}


def _same(what: str, theirs: dict[str, Any], ours: dict[str, Any], path: Path) -> None:
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            problem = f"measured on another {what}: {name} was {theirs.get(name)!r}, here it is {ours.get(name)!r}"
            raise ConfigError(problem, where=path, hint=f"{_AGAIN}, here")


def _is_point(value: object) -> bool:
    numbers = isinstance(value, list) and len(value) == 2 and all(type(one) in (int, float) for one in value)
    return numbers and all(0 < one < math.inf for one in value)  # type: ignore[attr-defined]


def asked_milliseconds(config: BenchmarkConfig) -> Sequence[tuple[str, str, Budget]]:
    """Label, method and budget of every time that was asked for."""
    path = profile_path(config)
    return [
        (f"{method} in {time:.12g} ms", method, Budget.milliseconds(time, read_profile(path, method, config)))
        for time in config.milliseconds
        for method in config.methods
    ]
