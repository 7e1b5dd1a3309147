"""AutoPrune, "Each Complexity Deserves a Pruning Policy" (2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from senna_prune.pruning import complexity as measures
from senna_prune.pruning.curves import REFERENCE_LAYERS, PaperCurve, ReleasedCurve, Shape, Slope
from senna_prune.pruning.interface import Complexity, Scorer
from senna_prune.pruning.mergers import ClusterDropped
from senna_prune.pruning.pruner import Positions
from senna_prune.pruning.registry import Host, Method
from senna_prune.pruning.scorers import AutoPruneScore, MeanAttention

REFERENCE_HEADS = 32


@dataclass(frozen=True, kw_only=True)
class AutoPrune(Method):
    """Mutual information between question and scene shapes a logistic retention curve under a fixed budget.

    Six views: all form one visual list, scored against the question that follows the last of them; the vision score is
    the one carried through the adapter. (The released code prunes one image block and reads one image's vision score.)

    Attributes:
        variant: "released" does what the published code does: cut behind layer 0 by vision and text attention, curve
            behind every later layer, dropped tokens clustered. "paper" is Eqs. 3-8: analytic area, no vision cut, no
            merging.
        k0, gamma, x0: Eq. 8, published values.
        beta: Eq. 8 of the paper variant. No value is published, and the sentence under the equation wants the opposite
            sign; ours has gamma's size. The released code uses x0 + k instead.
        indicator, curve: ablations of Table 4.
        slope: how complexity becomes k; "linear" is Eq. 8, the others are in the released code too.
        scaling: "reference" refers depth and heads to the published 32; "none" takes x0, k and the head sum as given.
    """

    variant: Literal["released", "paper"] = "released"
    k0: float = 0.4
    gamma: float = 0.2
    x0: float = 14.9
    beta: float = 0.2
    indicator: Literal["mutual_information", "mean_attention", "cosine", "static"] = "mutual_information"
    curve: Shape = "logistic"
    slope: Slope = "linear"
    scaling: Literal["reference", "none"] = "reference"
    positions: Positions = "repacked"

    def _scales(self, host: Host) -> tuple[float, float]:
        # One rule for decoders other than the published one: the curve is read at depth l * 32/L (so x0 scales with
        # L/32 and k with 32/L), and head-summed mutual information is scaled by 32/H.
        if self.scaling == "none":
            return 1.0, 1.0
        return REFERENCE_LAYERS / host.num_layers, REFERENCE_HEADS / host.num_heads

    def schedule(self, host: Host) -> ReleasedCurve | PaperCurve:
        depth, _ = self._scales(host)
        if self.variant == "paper":
            return PaperCurve(
                host.budget, self.k0, self.gamma, self.x0, self.beta, self.curve, self.slope, depth_scale=depth
            )
        return ReleasedCurve(host.budget, self.k0, self.gamma, self.x0, self.curve, self.slope, depth)

    def scorer(self, host: Host) -> Scorer:
        return MeanAttention() if self.variant == "paper" else AutoPruneScore(self._scales(host)[1])

    def complexity(self, host: Host) -> Complexity | None:
        if self.indicator == "static":
            return None
        if self.indicator == "mean_attention":
            return measures.AttentionMass()
        if self.indicator == "cosine":
            return measures.CosineSimilarity()
        if self.variant == "paper":
            return measures.PrintedMutualInformation()
        return measures.MutualInformation(scale=self._scales(host)[1])

    def merger(self, host: Host) -> ClusterDropped | None:
        return None if self.variant == "paper" else ClusterDropped()
