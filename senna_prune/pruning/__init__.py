"""Pruning policies: pure functions of tensors and numbers. Knows neither the model nor the engine."""

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
