"""Pruning policies: pure functions of tensors and numbers. Knows neither the model nor the engine.

Names are loaded when they are first used: scoring reads `curve_shapes`, which needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from senna_prune.cost import DecoderCost
    from senna_prune.pruning.budget import Budget
    from senna_prune.pruning.pruner import Pruner
    from senna_prune.pruning.registry import (
        describe,
        make_method,
        make_pruner,
        method_names,
        method_options,
        register_method,
    )
    from senna_prune.pruning.schedules import Resolution

__all__ = [
    "Budget",
    "DecoderCost",
    "Pruner",
    "Resolution",
    "describe",
    "make_method",
    "make_pruner",
    "method_names",
    "method_options",
    "register_method",
]

_HOMES = {
    "Budget": "senna_prune.pruning.budget",
    "DecoderCost": "senna_prune.cost",
    "Pruner": "senna_prune.pruning.pruner",
    "Resolution": "senna_prune.pruning.schedules",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "senna_prune.pruning.registry")), name)
