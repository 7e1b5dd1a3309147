"""The conditions of a run: methods x retentions x seeds."""

from __future__ import annotations

from typing import Any

from senna_prune.config import PruningConfig, one_of
from senna_prune.errors import ConfigError
from senna_prune.evaluation.run.records import MAJORITY, RANDOM, UNPRUNED, Condition
from senna_prune.pruning.registry import make_method, method_names, method_options

UNBUDGETED = (UNPRUNED, "blind")
"""Methods that take no retention: one condition each."""
CONTROLS = (*UNBUDGETED, RANDOM, "uniform")
"""Labels that always mean the method of the same name, because readers of the table rely on it."""


def expand(pruning: PruningConfig) -> tuple[Condition, ...]:
    """Methods x retentions x seeds, in the order given. `none` is always there, first: every ratio is to it.

    Raises:
        ConfigError: a condition is listed twice, a label cannot be shown, or options are given for a label without a
            method.
        PruningError: an unknown method.
    """
    known = {*pruning.methods, *method_names()}
    for label in pruning.methods:
        if label == MAJORITY or (pruning.options.get(label, {}).get("method", label) != label and label in CONTROLS):
            raise ConfigError(f"{label!r} is the name of a control", where="pruning", hint="choose another label")
        if not label or not label.isprintable() or set(label) & set("@#|"):
            hint = "use printable characters without @, # and |"
            raise ConfigError(f"{label!r} cannot be a label", where="pruning", hint=hint)
    for label, given in pruning.options.items():
        if not isinstance(given.get("method", label), str):
            raise ConfigError(f"{given['method']!r} is no method", where=f"pruning.options.{label}.method")
        if "method" not in given:
            one_of(label, sorted(known), "pruning.options")
    conditions: list[Condition] = []
    for label in [UNPRUNED, *(label for label in pruning.methods if label != UNPRUNED)]:
        options: dict[str, Any] = dict(pruning.options.get(label, {}))
        method = options.pop("method", label)
        make_method(method, **options)  # refuses what it does not take before any work is done
        seeds = pruning.seeds if "seed" in method_options(method) and "seed" not in options else [None]
        retentions = [None] if method in UNBUDGETED else pruning.retentions
        conditions += [Condition(label, method, r, seed, options) for r in retentions for seed in seeds]
    ids = [condition.id for condition in conditions]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise ConfigError(f"{twice!r} is listed twice", where="pruning", hint="list methods, retentions and seeds once")
    return tuple(conditions)
