"""What makes two runs the same run, and a line of one a line of the other: settings, checkpoint, data and code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import senna_prune
from senna_prune.config import SENNA, EvaluationConfig
from senna_prune.errors import RunError, listed
from senna_prune.evaluation.run.records import Condition
from senna_prune.evaluation.run.system import source_of
from senna_prune.files import digest

PATHS = ("output", "data.planning_set", "data.image_root", "model.path", "model.vision_tower")
"""Settings outside the key, so that a data set may move. Checkpoint and planning set enter the key by a digest.
Images enter by their names in the planning set; digests of their bytes lie beside the decisions, see `ImageReader`.
"""

PRESENTATION = ("name", "scoring.", "log_with")
"""Settings that no decision depends on: a finished run can be scored again with other values of them."""

SWEEP = (
    "pruning.methods",
    "pruning.retentions",
    "pruning.seeds",
    "pruning.options",
    "pruning.controls",
    "pruning.oracles",
)
"""Settings that say which conditions there are; a line depends on its own condition alone."""

GROWS = ("conditions", "limit")
"""Parts of the key in which a run may change: lines that still fit are used again, and none is lost."""

DECIDING_PACKAGES = (
    "evaluation/audit/adapter_map.py",
    "evaluation/audit/seen.py",
    "evaluation/audit/survival.py",
    "evaluation/run/records.py",
    "evaluation/run/runner.py",
    "evaluation/run/senna_system.py",
    "evaluation/run/work.py",
    "task",
    "model",
    "pruning",
    "hosts",
    "engine",
    "planner",
    "image_files.py",
)
"""Code that every line depends on. After a change elsewhere, old lines are still right."""
METHODS = "pruning/methods"
"""Code that only the lines of one method depend on."""


def run_key(config: EvaluationConfig, checkpoint: str, conditions: Sequence[Condition]) -> dict[str, Any]:
    """Everything that a decision depends on, as flat names and JSON values; under `conditions` what each line depends
    on beside that.

    Raises:
        FileError: a planning set cannot be read.
    """
    left_out = (*PRESENTATION, *SWEEP)
    settings = {k: v for k, v in flat(asdict(config)) if k not in PATHS and not k.startswith(left_out)}
    key = {
        **settings,
        "model.device": device_type(config.model.device),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "checkpoint": checkpoint,
        "planning_set": [digest(path) for path in config.data.planning_set],
        "code": code_version(),
        "conditions": {condition.id: condition_digest(condition) for condition in conditions},
    }
    if config.system != SENNA:
        key["code of system"] = hashlib.sha256(source_of(config.system).encode()).hexdigest()[:12]
    return key


def condition_digest(condition: Condition) -> str:
    """Of everything that a condition's lines depend on alone: its name, options, and the code of its method."""
    from senna_prune.pruning.registry import method_code  # needs torch; scoring and reports read keys without it

    own = condition.id, condition.method, condition.retention, condition.seed, dict(condition.resolved)
    text = json.dumps([*own, method_code(condition.method)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fixed(key: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a key in which a run may not change. Who is in a batch depends on all samples."""
    grows = GROWS if key.get("batch_size") == 1 else GROWS[:1]
    return {name: value for name, value in key.items() if name not in grows}


def device_type(device: str) -> str:
    """`cpu` or `cuda`: what a setting means on this machine."""
    if device != "auto":
        return device.partition(":")[0]
    from senna_prune.devices import find_device  # needs torch; scoring and reports read keys without it

    return find_device(device, "model.device").type


def short_digest(key: Mapping[str, Any]) -> str:
    """Eight hex digits that name a run folder, the same for a run that grows."""
    return hashlib.sha256(json.dumps(fixed(key), sort_keys=True).encode()).hexdigest()[:8]


def require_same_run(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Refuse to continue another run, naming the fields that differ."""
    old, new = fixed(old), fixed(new)
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
            if source.is_relative_to(root / METHODS) and source.name != "__init__.py":
                continue
            sha.update(source.relative_to(root).as_posix().encode() + b"\0" + source.read_bytes() + b"\0")
    return f"{senna_prune.__version__}+{sha.hexdigest()[:12]}"
