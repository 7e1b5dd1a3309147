"""What makes two runs the same run: settings, checkpoint, planning set and code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import senna_prune
from senna_prune.config import EvaluationConfig
from senna_prune.errors import RunError, listed
from senna_prune.evaluation.run.calibration import OPTION, profiles_in_use
from senna_prune.files import digest

PATHS = ("output", "data.planning_set", "data.image_root", "model.path", "model.vision_tower")
"""Settings outside the key, so that a data set may move. Checkpoint and planning set enter the key by a digest.
Images enter by their names in the planning set; digests of their bytes lie beside the decisions, see `PictureReader`.
"""

PRESENTATION = ("name", "scoring.", "log_with")
"""Settings that no decision depends on: a finished run can be scored again with other values of them."""

DECIDING_PACKAGES = (
    "evaluation/audit/seen.py",
    "evaluation/audit/survival.py",
    "evaluation/run/records.py",
    "evaluation/run/runner.py",
    "evaluation/run/senna_system.py",
    "task",
    "model",
    "pruning",
    "hosts",
    "engine",
    "planner",
    "image_files.py",
)
"""Code that a decision or its line depends on. After a change elsewhere, old lines are still right."""


def run_key(config: EvaluationConfig, checkpoint: str) -> dict[str, Any]:
    """Everything that a decision depends on, as flat names and JSON values.

    Raises:
        FileError: a planning set cannot be read.
        ConfigError: a calibration was made for another checkpoint.
    """
    settings = {
        name: value
        for name, value in flat(asdict(config))
        if name not in PATHS and not name.startswith(PRESENTATION) and not _is_calibration(name)
    }
    return {
        **settings,
        "model.device": device_type(config.model.device),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "checkpoint": checkpoint,
        "planning_set": [digest(path) for path in config.data.planning_set],
        "code": code_version(),
        **_outside_methods(config),
        **profiles_in_use(config.pruning, checkpoint),
    }


def _is_calibration(name: str) -> bool:
    """A profile of a host is a path too, and enters the key by its digest."""
    return name.startswith("pruning.options.") and name.endswith(f".{OPTION}")


def _outside_methods(config: EvaluationConfig) -> dict[str, str]:
    """Code of methods that other packages bring; `code_version` covers this package alone."""
    from senna_prune.pruning.registry import outside_code  # needs torch; scoring and reports read keys without it

    options = config.pruning.options
    names = {options.get(label, {}).get("method", label) for label in config.pruning.methods}
    codes = {f"method {name}": outside_code(name) for name in sorted(names)}
    return {name: code for name, code in codes.items() if code is not None}


def device_type(device: str) -> str:
    """`cpu` or `cuda`: what a setting means on this machine."""
    if device != "auto":
        return device.partition(":")[0]
    from senna_prune.devices import find_device  # needs torch; scoring and reports read keys without it

    return find_device(device, "model.device").type


def short_digest(key: Mapping[str, Any]) -> str:
    """Eight hex digits that name a run folder."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:8]


def require_same_run(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Refuse to continue another run, naming the fields that differ."""
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    if names:
        changes = [
            f"{name} was {json.dumps(old.get(name))[:40]}, is {json.dumps(new.get(name))[:40]}" for name in names
        ]
        hint = "choose another output= or delete the folder"
        raise RunError(f"the folder holds another run: {listed(changes, 4)}", where=folder, hint=hint)


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def code_version(packages: Sequence[str] = DECIDING_PACKAGES) -> str:
    """Version of the package and a digest of the sources that decisions depend on."""
    root = Path(senna_prune.__file__).parent
    sha = hashlib.sha256()
    for name in packages:
        path = root / name
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            sha.update(source.relative_to(root).as_posix().encode() + b"\0" + source.read_bytes() + b"\0")
    return f"{senna_prune.__version__}+{sha.hexdigest()[:12]}"
