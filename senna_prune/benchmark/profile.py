"""The profile that turns milliseconds into a retention: written by a benchmark run, read by `Budget.milliseconds`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from senna_prune.benchmark.settings import BenchmarkConfig
from senna_prune.errors import ConfigError
from senna_prune.files import read_json, write_json
from senna_prune.pruning import Budget

SCHEMA_VERSION = 1


def profile_path(config: BenchmarkConfig) -> Path:
    return Path(config.output) / f"{config.name}_profile.json"


def write_profile(config: BenchmarkConfig, machine: dict[str, Any], points: dict[str, dict[float, float]]) -> Path:
    """Save measured prefill milliseconds (p50) by method and retention."""
    path = profile_path(config)
    record = {
        "schema": SCHEMA_VERSION,
        "machine": machine,
        "prefill_milliseconds": {
            method: [[retention, ms] for retention, ms in sorted(values.items())] for method, values in points.items()
        },
    }
    write_json(path, record)
    return path


def read_profile(path: Path, method: str) -> dict[float, float]:
    """Milliseconds by retention of one method, as `Budget.milliseconds` takes them.

    Raises:
        ConfigError: the file is absent, no profile, or does not know the method.
    """
    if not path.exists():
        raise ConfigError("no profile yet", where=path, hint="run senna-prune benchmark without milliseconds= first")
    again = "run senna-prune benchmark without milliseconds= again"
    record = read_json(path, hint=f"it is not a profile; {again}", error=ConfigError)
    measured = record.get("prefill_milliseconds")
    if record.get("schema") != SCHEMA_VERSION or not isinstance(measured, dict):
        raise ConfigError("not a profile of this version", where=path, hint=again)
    if method not in measured:
        raise ConfigError(f"the profile does not know method {method!r}", where=path, hint="benchmark that method")
    if not isinstance(measured[method], list) or not all(map(_is_point, measured[method])):
        raise ConfigError(f"the times of {method!r} are no list of [retention, milliseconds]", where=path, hint=again)
    return {float(retention): float(ms) for retention, ms in measured[method]}


def _is_point(value: object) -> bool:
    numbers = isinstance(value, list) and len(value) == 2 and all(type(one) in (int, float) for one in value)
    return numbers and all(0 < one < math.inf for one in value)  # type: ignore[attr-defined]


def asked_milliseconds(config: BenchmarkConfig) -> Sequence[tuple[str, str, Budget]]:
    """Label, method and budget of every time that was asked for."""
    return [
        (f"{method} in {time:.12g} ms", method, Budget.milliseconds(time, read_profile(profile_path(config), method)))
        for time in config.milliseconds
        for method in config.methods
    ]
