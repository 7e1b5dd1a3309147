"""SparseVLM version 2, as in the released code under `USE_VERSION=2_0`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from senna_prune.pruning.base import EMBEDDINGS, ROPE_PRODUCT, TEXT_ATTENTION, Observation, Positions
from senna_prune.pruning.methods.sparsevlm import Counts, SparseVLM
from senna_prune.pruning.options import option


@dataclass(frozen=True, kw_only=True)
class SparseVLM2(SparseVLM):
    """Version 2: like `sparsevlm`, but attention is divided by the RoPE product, the best heads vote, no merging.

    Six views and budget: as in `sparsevlm`. The RoPE product is that of two all-ones vectors; the best heads are those
    with the largest sum from raters to visual tokens.
    """

    needs = frozenset({TEXT_ATTENTION, EMBEDDINGS, ROPE_PRODUCT})
    heads: int | None = option(None, "heads that vote; by default half of them, as released.", least=1)
    positions: Positions = "original"
    merges: ClassVar[bool] = False
    published: ClassVar[Mapping[int, Counts]] = {64: (66, 34, 20), 128: (238, 108, 60), 192: (300, 200, 118)}

    def by_rater(self, seen: Observation, rater: Tensor) -> Tensor:
        assert seen.rope_product is not None
        attention = seen.attention / seen.rope_product
        strength = (attention * rater[:, None]).sum((1, 2))
        heads = self.heads or max(self.num_heads // 2, 1)
        return attention[strength.topk(min(heads, strength.numel())).indices]
