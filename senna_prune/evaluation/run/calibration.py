"""Profiles of a host's complexities: written by `senna-prune calibrate`, named by `calibration` in a method's options.

A profile belongs to one checkpoint, to the options that complexity depends on, and to the retentions it was measured
at.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, to_builtins

from senna_prune.config import PruningConfig
from senna_prune.errors import ConfigError, RunError
from senna_prune.evaluation.run.records import Real, decoded
from senna_prune.files import read_bytes, write_json

SCHEMA_VERSION = 1
OPTION = "calibration"
"""Key in a label's options: file of a profile, or null."""
HINT = "write it anew with senna-prune calibrate"
MEASURED_BY = ("indicator", "variant", "scaling", "text_scope", "scope", "min_tokens_per_view", "view_weights")
"""Options that a sample's complexity depends on: what is measured, and which tokens are left by then."""


class Profile(Struct, frozen=True, forbid_unknown_fields=True, tag_field="schema", tag=SCHEMA_VERSION):
    """Complexities of one host.

    Attributes:
        checkpoint: digest of the checkpoint.
        measured_by: values of `MEASURED_BY`.
        samples: how many were measured.
        quantiles: by retention, on which the first cut depends: complexities at evenly spaced shares from 0 to 1 of the
            samples, ascending.
    """

    checkpoint: str
    measured_by: Mapping[str, Any]
    samples: int
    quantiles: Mapping[str, tuple[Real, ...]]

    def write(self, path: Path) -> None:
        """Write it as JSON; raises FileError."""
        write_json(path, to_builtins(self))


def read_profile(path: str) -> Profile:
    """A profile from its file.

    Raises:
        RunError: it cannot be read, or is no profile.
    """
    return decoded(Profile, read_bytes(path, hint=HINT, error=RunError), path, HINT)


def measured_by(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Of a method's options those that its complexity depends on, as JSON holds them."""
    values = {name: resolved[name] for name in MEASURED_BY}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def calibrated(path: str, retention: float, resolved: Mapping[str, Any], measured_indicator: str) -> tuple[float, ...]:
    """Quantiles of a profile for one condition.

    Args:
        path: of the profile.
        retention, resolved: of the condition.
        measured_indicator: the indicator that measures; a control of adaptation takes what another row measured.

    Raises:
        RunError: the file is no profile, or one of other options or other retentions.
    """
    profile = read_profile(path)
    wanted = measured_by(resolved) | {"indicator": measured_indicator}
    if odd := [name for name, value in wanted.items() if profile.measured_by.get(name) != value]:
        problem = f"made with {odd[0]} {profile.measured_by.get(odd[0])}, not {wanted[odd[0]]}"
        raise RunError(problem, where=path, hint=HINT)
    if (found := profile.quantiles.get(f"{retention:g}")) is None:
        problem = f"made for retention {', '.join(profile.quantiles)}, not for {retention:g}"
        raise RunError(problem, where=path, hint=f"{HINT} and pruning.retentions=[{retention:g}]")
    return found


def require_own_profiles(pruning: PruningConfig, checkpoint: str) -> None:
    """Raises ConfigError where the settings name a profile that was made for another checkpoint."""
    for label in pruning.methods:
        path = pruning.options.get(label, {}).get(OPTION)
        if path is not None and read_profile(path).checkpoint != checkpoint:
            problem = "the calibration was made for another checkpoint"
            raise ConfigError(problem, where=f"pruning.options.{label}.{OPTION}", hint=HINT)
