"""VisionZip, "Longer is Better but Not Necessary in Vision Language Models" (CVPR 2025)."""

from __future__ import annotations

from dataclasses import dataclass

from senna_prune.pruning.mergers import ContextualMerge
from senna_prune.pruning.pruner import Positions
from senna_prune.pruning.registry import Host, Method
from senna_prune.pruning.schedules import SingleCut
from senna_prune.pruning.scorers import VisionAttention


@dataclass(frozen=True, kw_only=True)
class VisionZip(Method):
    """Dominant tokens by CLS attention; the rest is averaged into contextual tokens by the similarity of vision keys.

    Six views: one visual list, cut after Senna's adapter on attention and keys carried through it, and merged there as
    decoder embeddings (published: vision features before the projector). Senna feeds no CLS token, so the place the
    published dominant set spends on it goes to one more token. A contextual token stands at the end of its target's
    view.

    Attributes:
        contextual: share of the kept tokens that are contextual; published 10 of 64, 20 of 128, 30 of 192.
    """

    contextual: float = 10 / 64
    positions: Positions = "repacked"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0 <= self.contextual < 1, "contextual", "a share in [0, 1)")

    def schedule(self, host: Host) -> SingleCut:
        return SingleCut(host.budget, merged_share=self.contextual)

    def scorer(self, host: Host) -> VisionAttention:
        return VisionAttention()

    def merger(self, host: Host) -> ContextualMerge:
        return ContextualMerge()
