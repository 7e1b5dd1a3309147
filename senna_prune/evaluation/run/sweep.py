"""The conditions of a run: methods x retentions x seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from senna_prune.config import PruningConfig, one_of
from senna_prune.errors import ConfigError
from senna_prune.evaluation.run.calibration import OPTION, calibrated
from senna_prune.evaluation.run.controls import CONTROLS as OF_ADAPTATION
from senna_prune.evaluation.run.controls import MEASURED, require_measured
from senna_prune.evaluation.run.records import CONTROLS, MAJORITY, ORACLES, RANDOM, UNBUDGETED, UNPRUNED, Condition
from senna_prune.pruning.registry import make_method, method_names, method_options


def expand(pruning: PruningConfig, objects: bool = False) -> tuple[Condition, ...]:
    """Methods x retentions x seeds, in the order given, then the controls that were not listed (`pruning.controls`,
    `pruning.oracles`). `none` is always there, first: every ratio is to it.

    Args:
        pruning: the settings.
        objects: every sample tells its objects, which the oracles need.

    Raises:
        ConfigError: a condition is listed twice, a label cannot be shown, options are given for a label without a
            method, or a control of adaptation stands without the row whose complexities it takes.
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
        conditions += _of_label(label, pruning.options.get(label, {}), pruning)
    if objects and pruning.oracles and any(condition.retention is not None for condition in conditions):
        for label in ORACLES:
            conditions += [] if label in pruning.methods else _of_label(label, pruning.options.get(label, {}), pruning)
    if pruning.controls:
        conditions += _missing_controls(conditions, pruning)
    ids = [condition.id for condition in conditions]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise ConfigError(f"{twice!r} is listed twice", where="pruning", hint="list methods, retentions and seeds once")
    require_measured(conditions)
    return tuple(conditions)


def _of_label(label: str, given: Mapping[str, Any], pruning: PruningConfig) -> Iterator[Condition]:
    shared = dict(given)
    method, profile = shared.pop("method", label), shared.pop(OPTION, None)
    if profile is not None and not (isinstance(profile, str) and "quantiles" in method_options(method)):
        hint = "name a file of senna-prune calibrate, with method autoprune"
        raise ConfigError(f"{method} cannot be calibrated by {profile!r}", where=f"pruning.options.{label}", hint=hint)
    resolved = _resolved(method, shared)  # refuses what it does not take before any work is done
    seeds = pruning.seeds if "seed" in method_options(method) and "seed" not in shared else [None]
    for retention in [None] if method in UNBUDGETED else pruning.retentions:
        options = shared
        if profile is not None and retention is not None:
            indicator = MEASURED if resolved["indicator"] in OF_ADAPTATION else resolved["indicator"]
            options = shared | {"quantiles": calibrated(profile, retention, resolved, indicator)}
        for seed in seeds:
            drawn = options if seed is None else options | {"seed": seed}
            yield Condition(label, method, retention, seed, options, _resolved(method, drawn))


def _resolved(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of a method with its value."""
    made = make_method(method, **options)
    return {name: getattr(made, name) for name in method_options(method)}


def _missing_controls(conditions: Sequence[Condition], pruning: PruningConfig) -> Iterator[Condition]:
    """`random` at every kind of positions that a listed method has and no listed `random` has."""
    there = {condition.positions for condition in conditions if condition.is_random_control}
    own = method_options(RANDOM)["positions"]
    for positions in dict.fromkeys(c.positions for c in conditions if c.positions and c.method != RANDOM):
        if positions in there:
            continue
        label = RANDOM if positions == own else f"{RANDOM}-{positions}"
        if label in pruning.methods:
            problem = f"{label!r} is the name of the control with {positions} positions"
            raise ConfigError(problem, where="pruning", hint="choose another label, or set pruning.controls=false")
        yield from _of_label(label, {"method": RANDOM, "positions": positions}, pruning)
