"""Operations that a pruned prefill dispatches, and how often it waits for the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from senna_prune.benchmark.clock import Operations
from senna_prune.benchmark.models import TimedModel, build_model
from senna_prune.benchmark.settings import BenchmarkConfig, TimedModelConfig
from senna_prune.planner.planner import pruner_for
from senna_prune.pruning import Budget


class Reads(TorchFunctionMode):
    """Counts how often the host reads a tensor's numbers."""

    count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (Tensor.tolist, Tensor.item, Tensor.numpy, Tensor.cpu, Tensor.__bool__, Tensor.__int__)
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def sixteen_layers() -> TimedModel:
    """Depth and prompt of `configs/benchmark/cpu_decoder.yaml`; the width does not change what is dispatched."""
    host = TimedModelConfig(
        layers=16, hidden=64, mlp=64, heads=16, vocabulary=300, vision_layers=0, vision_hidden=64, text_tokens=260
    )
    return build_model(BenchmarkConfig(host=host), torch.device("cpu"))


@pytest.mark.parametrize(
    ("method", "most"),
    [(name, 750) for name in ("uniform", "random", "fastv", "fastervlm", "visionzip", "dart")] + [("autoprune", 1200)],
)
def test_a_pruned_prefill_dispatches_few_operations(sixteen_layers: TimedModel, method: str, most: int) -> None:
    """The plain one dispatches 628."""
    pruner = pruner_for(sixteen_layers.model, method, Budget.retention(0.25))
    sixteen_layers.prefill(pruner)
    with Operations() as dispatched:
        sixteen_layers.prefill(pruner)
    assert 628 <= dispatched.count < most


def test_a_prefill_waits_for_the_device_once(sixteen_layers: TimedModel) -> None:
    """What the host reads of tensors is complexity alone."""
    pruner = pruner_for(sixteen_layers.model, "autoprune", Budget.retention(0.25))
    sixteen_layers.prefill(pruner)  # the layout is read off the ids once
    with Reads() as reads:
        sixteen_layers.prefill(pruner)
    assert reads.count == 1
