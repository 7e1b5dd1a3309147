"""The profile that turns milliseconds into a retention: written by a benchmark run, read by `Budget.milliseconds`."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import torch
import transformers

from senna_prune.benchmark.settings import BenchmarkConfig
from senna_prune.devices import find_device
from senna_prune.errors import ConfigError
from senna_prune.files import read_json, write_json
from senna_prune.model.checkpoint import checkpoint_digest
from senna_prune.pruning import Budget

SCHEMA_VERSION: Literal[2] = 2
MAX_TIME = 1e12
"""Milliseconds: 30 years. Infinity and NaN are no times."""
_AGAIN = "run senna-prune benchmark without milliseconds= again"


Positive = Annotated[float, msgspec.Meta(gt=0, lt=MAX_TIME)]


class Profile(msgspec.Struct):
    """Prefill milliseconds (p50) of methods by retention, with what they hold for."""

    machine: dict[str, Any]
    host: dict[str, Any]
    prefill_milliseconds: dict[str, list[tuple[Positive, Positive]]]
    schema: Literal[2] = SCHEMA_VERSION


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
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }


def describe_host(config: BenchmarkConfig) -> dict[str, Any]:
    """What tells the timed model from others: the digest of its checkpoint, or the shape of its random weights."""
    if config.host.checkpoint:
        return {"checkpoint": checkpoint_digest(config.host.checkpoint)}
    return {name: value for name, value in asdict(config.host).items() if name != "checkpoint"}


def write_profile(config: BenchmarkConfig, points: dict[str, dict[float, float]]) -> Path:
    """Save measured prefill milliseconds (p50) by method and retention, with what they hold for."""
    path, times = profile_path(config), {method: sorted(values.items()) for method, values in points.items()}
    write_json(path, msgspec.to_builtins(Profile(describe_machine(config), describe_host(config), times)))
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
    try:
        profile = msgspec.convert({"schema": None} | record, Profile)
    except msgspec.ValidationError as error:
        raise ConfigError(f"not a profile of this version ({error})", where=path, hint=_AGAIN) from error
    if config is not None:
        _same("machine", profile.machine, describe_machine(config), path)
        _same("model", profile.host, describe_host(config), path)
    else:
        here = [device_name(torch.device("cpu")), *map(torch.cuda.get_device_name, range(torch.cuda.device_count()))]
        if profile.machine.get("device") not in here:
            _same("machine", profile.machine, profile.machine | {"device": here[0]}, path)
    if method not in profile.prefill_milliseconds:
        raise ConfigError(f"the profile does not know method {method!r}", where=path, hint="benchmark that method")
    return dict(profile.prefill_milliseconds[method])


def _same(what: str, theirs: dict[str, Any], ours: dict[str, Any], path: Path) -> None:
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            problem = f"measured on another {what}: {name} was {theirs.get(name)!r}, here it is {ours.get(name)!r}"
            raise ConfigError(problem, where=path, hint=f"{_AGAIN}, here")


def asked_milliseconds(config: BenchmarkConfig) -> Sequence[tuple[str, str, Budget]]:
    """Label, method and budget of every time that was asked for."""
    path = profile_path(config)
    return [
        (f"{method} in {time:.12g} ms", method, Budget.milliseconds(time, read_profile(path, method, config)))
        for time in config.milliseconds
        for method in config.methods
    ]
