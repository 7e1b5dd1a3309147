"""Pruning methods: pure functions of tensors and numbers. Knows neither the model nor the engine.

Names are loaded when they are first used: scoring reads `curve_shapes`, which needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from senna_prune.cost import DecoderCost
    from senna_prune.pruning.base import Method, Observation
    from senna_prune.pruning.budget import Budget, Resolution
    from senna_prune.pruning.options import option
    from senna_prune.pruning.pruner import Pruner
    from senna_prune.pruning.registry import (
        describe,
        make_method,
        make_pruner,
        method_names,
        method_options,
        register_method,
    )

__all__ = [
    "Budget",
    "DecoderCost",
    "Method",
    "Observation",
    "Pruner",
    "Resolution",
    "describe",
    "make_method",
    "make_pruner",
    "method_names",
    "method_options",
    "option",
    "register_method",
]

_HOMES = {
    "Budget": "senna_prune.pruning.budget",
    "DecoderCost": "senna_prune.cost",
    "Method": "senna_prune.pruning.base",
    "Observation": "senna_prune.pruning.base",
    "Pruner": "senna_prune.pruning.pruner",
    "Resolution": "senna_prune.pruning.budget",
    "option": "senna_prune.pruning.options",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "senna_prune.pruning.registry")), name)
