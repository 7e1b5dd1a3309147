"""Scores that several methods use: which visual tokens to keep. Shape (n,), float32, higher = keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from senna_prune.pruning.interface import LAST_ATTENTION, NEXT_ATTENTION, TEXT_ATTENTION, VISION, Observation


@dataclass(frozen=True)
class Nothing:
    """For methods that never choose between tokens."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def score(self, observation: Observation) -> Tensor:
        """See `interface.Scorer`."""
        return torch.zeros_like(observation.origin, dtype=torch.float32)


@dataclass(frozen=True)
class VisionAttention:
    """Attention of the vision tower's class token (AutoPrune, FasterVLM, VisionZip); merged tokens get 0."""

    needs = frozenset({VISION})

    def score(self, observation: Observation) -> Tensor:
        """See `interface.Scorer`."""
        assert observation.vision is not None
        score = observation.vision.score.float()
        return torch.where(observation.origin >= 0, score[observation.origin.clamp(min=0)], score.new_zeros(()))


@dataclass(frozen=True)
class MeanAttention:
    """Attention rows averaged over heads and queries.

    Attributes:
        source: which rows: `TEXT_ATTENTION`, `LAST_ATTENTION` (FastV) or `NEXT_ATTENTION` (PyramidDrop).
    """

    source: str = TEXT_ATTENTION

    @property
    def needs(self) -> frozenset[str]:
        """See `interface.Scorer`."""
        assert self.source in (TEXT_ATTENTION, LAST_ATTENTION, NEXT_ATTENTION)
        return frozenset({self.source})

    def score(self, observation: Observation) -> Tensor:
        """See `interface.Scorer`."""
        return observation.mean_attention()
