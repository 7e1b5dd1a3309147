"""PyramidDrop, "Accelerating Your Large Vision-Language Models via Pyramid Visual Redundancy Reduction" (CVPR 2025)."""

from dataclasses import dataclass

from torch import Tensor

from senna_prune.pruning.base import NEXT_ATTENTION, LayerCounts, Method, Observation, Positions
from senna_prune.pruning.options import option


@dataclass(frozen=True, kw_only=True)
class PyramidDrop(Method):
    """Three cuts by the last prompt token's attention under the next layer's projections.

    Six views: one visual list. The published ratio 0.5 gives a mean of 47 % of the tokens; for a budget the published
    stages stay and the ratio is solved for. Where the budget lies below what they can reach with one token left, the
    stages move forward together, as little as possible; `--explain` names them.
    """

    stage = "inside, several times"
    needs = frozenset({NEXT_ATTENTION})
    stages: tuple[int, ...] | None = option(
        None, "layers before which tokens are cut; by default at 1/4, 2/4 and 3/4 of the depth."
    )
    ratios: tuple[float, ...] | None = option(
        None, "share of all tokens behind each stage, in place of the budget; published (0.5, 0.25, 0.125)."
    )
    positions: Positions = "repacked"

    def __post_init__(self) -> None:
        super().__post_init__()
        stages = (1, 2, 3) if self.stages is None else self.stages
        ratios = (1.0,) * len(stages) if self.ratios is None else self.ratios
        rising = min(stages, default=0) >= 1 and list(stages) == sorted(set(stages))
        self.require(rising, "stages", "rising layers from 1 on")
        self.require(len(ratios) == len(stages), "ratios", "one ratio per stage")
        falling = ratios[-1] > 0 and ratios[0] <= 1 and list(ratios) == sorted(ratios, reverse=True)
        self.require(falling, "ratios", "falling ratios in (0, 1]")

    @property
    def fixed(self) -> str:
        return "" if self.ratios is None else "counts are fixed by options"

    def schedule(self, num_visual: int, complexity: float | None) -> tuple[LayerCounts, str]:
        """Cuts at equal distances, each to the same ratio of the count before; the ratio is solved for."""
        total = self.budget.total(num_visual, self.num_layers)
        for first in range(max(self.num_layers // 4, 1), 0, -1):
            stages = self.stages or (first, 2 * first, 3 * first)

            def counts_at(ratio: float, stages: tuple[int, ...] = stages) -> LayerCounts:
                ratios = self.ratios or [ratio ** (i + 1) for i in range(len(stages))]
                counts = [max(int(num_visual * value), 1) for value in ratios]
                return LayerCounts.of_cuts(num_visual, self.num_layers, dict(zip(stages, counts, strict=True)))

            # The smallest pyramid that still has a token at its top.
            low = min(1.0, (1.0 + 1e-9) / num_visual) ** (1 / len(stages))
            if self.stages or self.ratios or self.budget.cost_of(counts_at(low)) <= total:
                break
        ratio = low if self.ratios else self.budget.fit(counts_at, low, 1.0)
        ratios = self.ratios or tuple(ratio ** (i + 1) for i in range(len(stages)))
        shown = ", ".join(f"{value:.3f}" for value in ratios)
        return counts_at(ratio), f"ratios {shown} before layers {', '.join(map(str, stages))}"

    def score(self, seen: Observation) -> Tensor:
        return seen.mean_attention
