"""Senna on current transformers, with AutoPrune and its baselines, evaluated on nuScenes planning.

    from senna_prune import Budget, Planner, load_senna, prune, pruner_for

Names are loaded when they are first used: conversion and scoring need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from senna_prune.engine import PruneTrace
    from senna_prune.engine.prune import prune
    from senna_prune.errors import SennaPruneError
    from senna_prune.model.checkpoint import load_senna
    from senna_prune.planner.planner import Frame, Plan, Planner, pruner_for
    from senna_prune.pruning import Budget, Pruner, make_pruner, method_names
    from senna_prune.task.labels import Command, Path, Speed

__version__ = "0.3.0"

_HOMES = {
    "Budget": "senna_prune.pruning",
    "Command": "senna_prune.task.labels",
    "Frame": "senna_prune.planner.planner",
    "Path": "senna_prune.task.labels",
    "Plan": "senna_prune.planner.planner",
    "Planner": "senna_prune.planner.planner",
    "PruneTrace": "senna_prune.engine",
    "Pruner": "senna_prune.pruning",
    "SennaPruneError": "senna_prune.errors",
    "Speed": "senna_prune.task.labels",
    "load_senna": "senna_prune.model.checkpoint",
    "make_pruner": "senna_prune.pruning",
    "method_names": "senna_prune.pruning",
    "prune": "senna_prune.engine",
    "pruner_for": "senna_prune.planner.planner",
}

__all__ = [
    "Budget",
    "Command",
    "Frame",
    "Path",
    "Plan",
    "Planner",
    "PruneTrace",
    "Pruner",
    "SennaPruneError",
    "Speed",
    "load_senna",
    "make_pruner",
    "method_names",
    "prune",
    "pruner_for",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
