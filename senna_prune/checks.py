"""Refuses single values of settings: out of bounds, no name, none of a closed list."""

from __future__ import annotations

import os
from collections.abc import Iterable

from senna_prune.errors import ConfigError, brief, nearest_of


def require_between(key: str, value: int | None, low: int, high: int | None) -> None:
    """Refuse a number outside its bounds, which are allowed themselves; None means "not set" or "no bound"."""
    if value is not None and value < low:
        raise ConfigError(f"{value} is less than {low}", where=key)
    if value is not None and high is not None and value > high:
        raise ConfigError(f"{value} is more than {high}", where=key)


def require_name(name: str, key: str) -> None:
    """Refuse a name that could not be part of a file's name, or would lead to another folder."""
    if not name or not name.isprintable() or set(name) & {"/", "\\"} or len(os.fsencode(name)) > 200:
        hint = "use 1 to 200 printable characters without / and \\"
        raise ConfigError(f"{brief(name, 80)} cannot name a run", where=key, hint=hint)


def one_of(value: str, allowed: Iterable[str], key: str) -> None:
    """Refuse a value that is not in a closed list, naming the nearest that is."""
    names = list(allowed)
    if value not in names:
        raise ConfigError(f"unknown value {value!r}", where=key, hint=nearest_of(value, names))


def require_shares(retentions: Iterable[float], key: str) -> None:
    """Refuse a retention outside (0, 1]."""
    for retention in retentions:
        if not 0 < retention <= 1:
            raise ConfigError(f"{retention} is no share of tokens", where=key, hint="use (0, 1]")
