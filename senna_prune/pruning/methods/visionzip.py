"""VisionZip, "Longer is Better but Not Necessary in Vision Language Models" (CVPR 2025)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from senna_prune.pruning.base import VISION, LayerCounts, Method, Observation, Positions, Selection
from senna_prune.pruning.options import option


@dataclass(frozen=True, kw_only=True)
class VisionZip(Method):
    """Dominant tokens by CLS attention; the rest is averaged into contextual tokens by the similarity of vision keys.

    Six views: one visual list, cut after Senna's adapter by attention and keys that were mapped through it, and merged
    there as decoder embeddings (published: vision features before the projector). Senna's decoder gets no CLS token, so
    the published dominant set has room for one more token. A contextual token is placed at the end of its target's
    view.
    """

    stage = "before the decoder, once"
    needs = frozenset({VISION})
    contextual: float = option(
        10 / 64, "share of the kept tokens that are contextual; published 10 of 64, 20 of 128, 30 of 192."
    )
    positions: Positions = "repacked"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0 <= self.contextual < 1, "contextual", "a share in [0, 1)")

    def schedule(self, num_visual: int, complexity: float | None) -> tuple[LayerCounts, str]:
        return self.budget.one_cut(num_visual, self.num_layers, self.boundary, merged_share=self.contextual)

    def score(self, seen: Observation) -> Tensor:
        return seen.vision_score

    def merge(self, seen: Observation, order: Tensor, keep: Tensor, count: int) -> Selection:
        if not count:
            return Selection(keep)
        assert seen.vision is not None and seen.vision.keys is not None
        return Selection(keep, *contextual_merge(seen.hidden, seen.vision.keys, keep, count))


def contextual_merge(features: Tensor, keys: Tensor, keep: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """VisionZip: every (n_rest // count)-th of the tokens not kept is a target; the others are averaged into the target
    with the most similar key.

    Args:
        features: what is merged, shape (n, d).
        keys: key projections, mean over heads, shape (n, d_key).
        keep: dominant tokens, ascending, shape (k,).
        count: contextual tokens, at most n - k.

    Returns:
        Target plus mean of its others, shape (count, d), in `features.dtype`, and the targets' indices, shape (count,).
    """
    num_rest = features.shape[0] - keep.shape[0]
    kept = torch.zeros(features.shape[0], dtype=torch.bool, device=features.device).index_fill(0, keep, True)
    rest = kept.int().argsort(stable=True)[:num_rest]
    step = max(num_rest // max(count, 1), 1)
    place = torch.arange(num_rest, device=features.device)
    target = (place % step == 0) & (place < step * count)
    targets = rest[: step * count : step]
    unit = F.normalize(keys.float(), dim=-1)
    nearest = (unit[rest] @ unit[targets].T).argmax(-1)
    member = ((nearest == torch.arange(count, device=features.device)[:, None]) & ~target).float()
    mean = member @ features[rest].float() / member.sum(1, keepdim=True).clamp(min=1)
    return (features[targets].float() + mean).to(features.dtype), targets
