"""SparseVLM version 2, as in the released code under `USE_VERSION=2_0`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from senna_prune.pruning.method import Target
from senna_prune.pruning.methods.sparsevlm import Counts, RaterAttention, SparseVLM
from senna_prune.pruning.pruner import Positions


@dataclass(frozen=True, kw_only=True)
class SparseVLM2(SparseVLM):
    """Version 2: like `sparsevlm`, but attention is divided by the RoPE product, the best heads vote, no merging.

    Six views and budget: as in `sparsevlm`.

    Attributes:
        heads: heads that vote; by default half of them, as released.
    """

    heads: int | None = None
    positions: Positions = "original"
    published: ClassVar[Mapping[int, Counts]] = {64: (66, 34, 20), 128: (238, 108, 60), 192: (300, 200, 118)}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.heads is None or self.heads >= 1, "heads", "1 or more")

    def scorer(self, target: Target) -> RaterAttention:
        return RaterAttention(self.heads or max(target.num_heads // 2, 1))

    def merger(self, target: Target) -> None:
        return None
