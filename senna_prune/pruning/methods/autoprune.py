"""AutoPrune, "Each Complexity Deserves a Pruning Policy" (2025)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from torch import Tensor

from senna_prune.pruning.base import TEXT_ATTENTION, VISION, Complexity, LayerCounts, Observation, Scorer
from senna_prune.pruning.budget import Budget
from senna_prune.pruning.complexities import MEASURED_LAYER, Assumed, Indicator, mutual_information
from senna_prune.pruning.curve_shapes import REFERENCE_LAYERS, Shape, Slope, curve, curve_area, dynamic_slope
from senna_prune.pruning.mergers import ClusterDropped, merged_count
from senna_prune.pruning.method import Method, Target
from senna_prune.pruning.pruner import Positions
from senna_prune.pruning.schedules import BudgetedSchedule
from senna_prune.pruning.scorers import MeanAttention, VisionAttention

REFERENCE_HEADS = 32
PLATEAU = 0.75  # height of the released logistic
CAP = 2.5  # the released code lets at most this multiple of the target through layer 0


@dataclass(frozen=True, kw_only=True)
class AutoPrune(Method):
    """Mutual information between question and scene shapes a logistic retention curve under a fixed budget.

    Six views: all form one visual list, scored against the question that follows the last of them; the vision score
    was mapped through the adapter. (The released code prunes one image block and reads one image's vision score.)

    Attributes:
        variant: "released" does what the published code does: cut behind layer 0 by vision and text attention, curve
            behind every later layer, dropped tokens clustered. "paper" is Eqs. 3-8: analytic area, no vision cut, no
            merging.
        k0, gamma, x0: Eq. 8 at complexity I: slope of the curve k0 - gamma I, inflection at layer x0 of 32; published.
        beta: Eq. 8 of the paper variant. No value is published, and the sentence under the equation wants the opposite
            sign; ours has gamma's size. The released code uses x0 + k instead.
        indicator: what measures complexity (Table 4a). Two controls of adaptation measure nothing: an evaluation gives
            every sample another sample's mutual information ("shuffled"), or all of them their mean ("static").
        assumed: complexity that a control takes; null in an evaluation, which fills it in, and elsewhere 0.
        shuffle_seed: decides which sample's complexity "shuffled" takes.
        quantiles: of this host's complexity, which is then mapped onto the published range 0 to 2 before Eq. 8 (ours);
            null: as it is, as published. In an evaluation `calibration` names a file of them (`senna-prune calibrate`).
        curve: its shape (Table 4b).
        slope: how complexity becomes the slope; "linear" is Eq. 8, the others are in the released code too.
        scaling: "reference" converts depth and heads to the published 32; "none" takes x0, k and the head sum as given.
    """

    tier = "inside, every layer"
    variant: Literal["released", "paper"] = "released"
    k0: float = 0.4
    gamma: float = 0.2
    x0: float = 14.9
    beta: float = 0.2
    indicator: Literal["mutual_information", "mean_attention", "cosine", "static", "shuffled"] = "mutual_information"
    assumed: float | None = None
    shuffle_seed: int = 0
    quantiles: tuple[float, ...] | None = None
    curve: Shape = "logistic"
    slope: Slope = "linear"
    scaling: Literal["reference", "none"] = "reference"
    positions: Positions = "repacked"

    def __post_init__(self) -> None:
        super().__post_init__()
        control = self.indicator in ("static", "shuffled")
        self.require(self.assumed is None or control, "assumed", "it with indicator static or shuffled only")
        points = self.quantiles
        ascending = points is None or (len(points) > 1 and all(a <= b for a, b in pairwise(points)))
        self.require(ascending, "quantiles", "two or more numbers, ascending")

    def _scales(self, target: Target) -> tuple[float, float]:
        # One rule for decoders other than the published one: the curve is read at depth l * 32/L (so x0 scales with
        # L/32 and k with 32/L), and head-summed mutual information is scaled by 32/H.
        if self.scaling == "none":
            return 1.0, 1.0
        return REFERENCE_LAYERS / target.num_layers, REFERENCE_HEADS / target.num_heads

    def schedule(self, target: Target) -> RetentionCurve:
        kind = PaperCurve if self.variant == "paper" else ReleasedCurve
        return kind(target.budget, self, self._scales(target)[0])

    def scorer(self, target: Target) -> Scorer:
        return MeanAttention() if self.variant == "paper" else AutoPruneScore(self._scales(target)[1])

    def complexity(self, target: Target) -> Complexity | None:
        if self.indicator == "static" or self.indicator == "shuffled":
            return None if self.assumed is None else Assumed(self.assumed)
        printed = self.indicator == "mutual_information" and self.variant == "paper"
        kind = "printed_mutual_information" if printed else self.indicator
        return Indicator(kind, self._scales(target)[1], self.quantiles or ())

    def merger(self, target: Target) -> ClusterDropped | None:
        return None if self.variant == "paper" else ClusterDropped()


@dataclass(frozen=True)
class AutoPruneScore:
    """Behind layer 0, the vision score plus 0.3 w times the mean text attention, w = mutual information per text row;
    behind later layers the mean text attention alone.

    Attributes:
        head_scale: factor on the head-summed mutual information.
    """

    head_scale: float = 1.0
    needs = frozenset({TEXT_ATTENTION, VISION})

    def score(self, observation: Observation) -> Tensor:
        """See `base.Scorer`."""
        mean = observation.mean_attention()
        if observation.layer > 1:
            return mean
        assert observation.rows is not None
        information = mutual_information(observation.rows, observation.slots).sum()
        weight = information * self.head_scale / observation.rows.shape[1]
        return 0.3 * weight * mean + VisionAttention().score(observation)


@dataclass(frozen=True)
class RetentionCurve(BudgetedSchedule):
    """Complexity sets the slope of a curve over depth, the budget its height.

    Attributes:
        options: of the method.
        depth_scale: reference layers per layer of this decoder.
    """

    budget: Budget
    options: AutoPrune
    depth_scale: float = 1.0

    @property
    def adapts_up_to(self) -> float:
        """Where Eq. 8 is clamped to slope 0, and the curve is flat."""
        return max(self.options.k0 / self.options.gamma, 0.0) if self.options.gamma > 0 else 0.0

    def _slope(self, complexity: float) -> float:
        return dynamic_slope(complexity, self.options.k0, self.options.gamma, self.options.slope)

    def _curve(self, layer: int, k: float, x0: float) -> float:
        return curve(self.options.curve, layer * self.depth_scale, k, x0)


class PaperCurve(RetentionCurve):
    """Eqs. 5-8: the curve from layer 0 on, rescaled by its analytic area, then by a factor s so that the floored counts
    meet the budget; no vision cut, no merging. Layers up to the one that measures complexity keep every token."""

    def _solve(self, num_visual: int, num_layers: int, complexity: float | None) -> tuple[LayerCounts, str]:
        complexity = complexity or 0.0
        k, x0 = self._slope(complexity), self.options.x0 + self.options.beta * complexity
        area = curve_area(self.options.curve, k, x0, num_layers * self.depth_scale) / self.depth_scale
        # Eq. 7 divides by an area that already contains N_init; the curve meant has the budget as its own area.
        height = self.budget.mean_tokens(num_visual) * num_layers / max(area, 1e-9)
        values = [height * self._curve(layer, k, x0) for layer in range(num_layers)]

        def counts_at(log_scale: float) -> LayerCounts:
            tokens = [num_visual] * min(MEASURED_LAYER + 1, num_layers)
            for value in values[MEASURED_LAYER + 1 :]:
                tokens.append(min(max(math.floor(math.exp(log_scale) * value), 1), tokens[-1]))
            return LayerCounts((*tokens, tokens[-1]), (0,) * (num_layers + 1))

        scale = self._fit(counts_at, -20.0, 20.0)
        return counts_at(scale), f"I={complexity:.2f}, k={k:.3f}, x0={x0:.2f}, s={math.exp(scale):.4f}"


class ReleasedCurve(RetentionCurve):
    """The released policy: a cut behind layer 0, then the scaled curve behind every layer."""

    has_own_accounting: ClassVar[bool] = True

    def _solve(self, num_visual: int, num_layers: int, complexity: float | None) -> tuple[LayerCounts, str]:
        complexity = complexity or 0.0
        k = self._slope(complexity)
        # The released code moves the inflection to x0 + k, Eq. 8 to x0 + beta I.
        values = [PLATEAU * self._curve(layer, k, self.options.x0 + k) for layer in range(1, num_layers)]
        if self.budget.accounting == "published" and values:
            target = max(round(self.budget.mean_tokens(num_visual)), 1)
            first = min(int(CAP * target), num_visual)
            percent = released_keep_percent(values, first, target, num_visual)
            counts = simulate(first, [math.ceil((first - 1) * value) for value in percent], num_visual)
            return counts, f"I={complexity:.2f}, k={k:.3f}, scale={percent[0] / values[0]:.4f}"
        mean = self.budget.mean_tokens(num_visual)
        # A shallow decoder may not afford the released cap: leave one token for each later layer.
        affordable = int(mean * num_layers) - num_visual - (num_layers - 2)
        first = max(min(int(CAP * mean), affordable, num_visual), 1)

        def counts_at(log_scale: float) -> LayerCounts:
            scale = math.exp(log_scale)
            # Rounding up less with depth lets the counts change one at a time, so that the budget can be met; the
            # released rounding moves all layers of a flat curve together.
            keeps = [
                math.floor((first - 1) * min(1.0, scale * value) + 1 - layer / num_layers)
                for layer, value in enumerate(values, start=1)
            ]
            return simulate(first, keeps, num_visual)

        scale = self._fit(counts_at, -20.0, 20.0)
        return counts_at(scale), f"I={complexity:.2f}, k={k:.3f}, scale={math.exp(scale):.4f}"


def simulate(first: int, keeps: Sequence[int], num_visual: int) -> LayerCounts:
    """Counts when at most `keeps[i]` of the current tokens stay after layer i + 1 and some of the others are merged.

    Args:
        first: tokens entering layer 1.
        keeps: one per layer from 1 on, shape (L - 1,).
        num_visual: tokens entering layer 0.
    """
    tokens, merged = [num_visual, first], [0, 0]
    for wanted in keeps:
        keep = max(min(wanted, tokens[-1]), 0)
        merged.append(merged_count(tokens[-1] - keep))
        tokens.append(keep + merged[-1])
    return LayerCounts(tuple(tokens), tuple(merged))


def released_keep_percent(values: Sequence[float], first: int, target: int, num_visual: int) -> list[float]:
    """Share of `first` kept after layers 1..L-1, by the released bisection.

    Args:
        values: the unscaled curve at layers 1..L-1, at least one.
        first: tokens left by the layer-0 cut.
        target: wanted mean over layers of the tokens *after* each.
        num_visual: tokens before any cut.
    """
    wanted = (len(values) + 1) * target
    unscaled = sum(int(first * value) for value in values) + int(first * values[-1])
    if abs(unscaled - wanted) < 1:
        return list(values)
    cap = min(int(CAP * target), num_visual)
    low, high, best, error = 0.0, 20.0, 1.0, math.inf
    for _ in range(200):
        scale = (low + high) / 2
        keeps = [min(math.ceil((first - 1) * min(1.0, scale * value)), cap) for value in values]
        total = sum(simulate(first, keeps, num_visual).tokens[1:])
        if abs(total - wanted) < error:
            best, error = scale, abs(total - wanted)
        if total == wanted:
            break
        low, high = (scale, high) if total < wanted else (low, scale)
    return [best * value for value in values]
