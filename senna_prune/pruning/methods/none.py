"""No pruning."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from senna_prune.pruning.base import LayerCounts, Method, Observation, Stage


@dataclass(frozen=True, kw_only=True)
class NoPruning(Method):
    """Control: every visual token enters every layer; bit-identical to the model without a pruner."""

    stage: ClassVar[Stage] = "nowhere"
    fixed = "ignores the budget"

    def schedule(self, num_visual: int, complexity: float | None) -> tuple[LayerCounts, str]:
        return LayerCounts.of_cuts(num_visual, self.num_layers), "keeps all"

    def score(self, seen: Observation) -> Tensor:
        return torch.zeros_like(seen.origin, dtype=torch.float32)
