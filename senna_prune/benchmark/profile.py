"""The profile that turns milliseconds into a retention: written by a benchmark run, read by `Budget.milliseconds`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from senna_prune.benchmark.settings import BenchmarkConfig
from senna_prune.errors import ConfigError
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
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
    return path


def read_profile(path: Path, method: str) -> dict[float, float]:
    """Milliseconds by retention of one method, as `Budget.milliseconds` takes them.

    Raises:
        ConfigError: the file is absent, no profile, or does not know the method.
    """
    if not path.is_file():
        raise ConfigError("no profile yet", where=path, hint="run tools/benchmark.py without milliseconds= first")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("not a profile", where=path, hint="run tools/benchmark.py again") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA_VERSION:
        raise ConfigError("not a profile of this version", where=path, hint="run tools/benchmark.py again")
    if method not in record["prefill_milliseconds"]:
        raise ConfigError(f"the profile does not know method {method!r}", where=path, hint="benchmark that method")
    return {float(retention): float(ms) for retention, ms in record["prefill_milliseconds"][method]}


def asked_milliseconds(config: BenchmarkConfig) -> Sequence[tuple[str, str, Budget]]:
    """Label, method and budget of every time that was asked for."""
    return [
        (f"{method} in {time:g} ms", method, Budget.milliseconds(time, read_profile(profile_path(config), method)))
        for time in config.milliseconds
        for method in config.methods
    ]
