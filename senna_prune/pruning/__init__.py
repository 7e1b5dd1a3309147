"""Pruning policies: pure functions of tensors and numbers. Knows neither the model nor the engine."""

from senna_prune.cost import DecoderCost
from senna_prune.pruning.budget import Budget
from senna_prune.pruning.pruner import Pruner
from senna_prune.pruning.registry import make_pruner, method_names, method_options, method_summary
from senna_prune.pruning.schedules import Resolution

__all__ = [
    "Budget",
    "DecoderCost",
    "Pruner",
    "Resolution",
    "make_pruner",
    "method_names",
    "method_options",
    "method_summary",
]
