"""Pruning methods: pure functions of tensors and numbers. Knows neither the model nor the engine.

Names are loaded when they are first used: scoring reads `curve_shapes`, which needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from senna_prune.cost import DecoderCost as DecoderCost
    from senna_prune.pruning.base import Method as Method
    from senna_prune.pruning.base import Observation as Observation
    from senna_prune.pruning.base import Pruner as Pruner
    from senna_prune.pruning.budget import Budget as Budget
    from senna_prune.pruning.options import option as option
    from senna_prune.pruning.registry import describe as describe
    from senna_prune.pruning.registry import make_method as make_method
    from senna_prune.pruning.registry import make_pruner as make_pruner
    from senna_prune.pruning.registry import method_names as method_names
    from senna_prune.pruning.registry import method_options as method_options
    from senna_prune.pruning.registry import register_method as register_method

_REGISTRY = ("describe", "make_method", "make_pruner", "method_names", "method_options", "register_method")
_HOMES = {
    "DecoderCost": "senna_prune.cost",
    **dict.fromkeys(("Method", "Observation", "Pruner"), "senna_prune.pruning.base"),
    "Budget": "senna_prune.pruning.budget",
    "option": "senna_prune.pruning.options",
    **dict.fromkeys(_REGISTRY, "senna_prune.pruning.registry"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
