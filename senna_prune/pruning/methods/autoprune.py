"""AutoPrune, "Each Complexity Deserves a Pruning Policy" (2025)."""

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from senna_prune.devices import constant
from senna_prune.pruning.base import EMBEDDINGS, TEXT_ATTENTION, VISION, LayerCounts, Observation, Positions
from senna_prune.pruning.clusters import Clustered, merged_count
from senna_prune.pruning.curve_shapes import REFERENCE_LAYERS, Shape, Slope, curve, curve_area, dynamic_slope
from senna_prune.pruning.options import option

REFERENCE_HEADS = 32
MEASURED_LAYER = 1  # the layer whose attention gives the complexity
PLATEAU = 0.75  # height of the released logistic
PUBLISHED_MOST = 2.0  # k0 / gamma as published: from complexity 0 to 2 the slope of Eq. 8 runs from k0 down to 0
CAP = 2.5  # the released code lets at most this multiple of the target through layer 0


@dataclass(frozen=True, kw_only=True)
class AutoPrune(Clustered):
    """Mutual information between question and scene shapes a logistic retention curve under a fixed budget.

    Six views: all form one visual list, scored against the question that follows the last of them; the vision score
    was mapped through the adapter. (The released code prunes one image block and reads one image's vision score.)

    The mutual information of the paper variant, a mean over heads in nats, hardly varies: from 0.056 to 0.082 over 25
    demo questions. Slopes then run from 0.384 to 0.389, and two samples differ by 0.14 tokens a layer: it is nearly a
    static method. Reports warn of every row whose slopes differ as little.
    """

    stage = "inside, every layer"
    variant: Literal["released", "paper"] = option(
        "released",
        "released does what the published code does: cut behind layer 0 by vision and text attention, curve behind "
        "every later layer, dropped tokens clustered. paper is Eqs. 3-8: analytic area, no vision cut, no merging.",
    )
    k0: float = option(0.4, "Eq. 8 at complexity I: the curve's slope is k0 - gamma I; published.")
    gamma: float = option(0.2, "see k0; published.")
    x0: float = option(14.9, "layer of 32 at which the curve turns; published.")
    beta: float = option(
        0.2,
        "Eq. 8 of the paper variant. No value is published, and the sentence under the equation wants the opposite "
        "sign; ours has gamma's size. The released code uses x0 + k instead.",
    )
    indicator: Literal["mutual_information", "mean_attention", "cosine", "static", "shuffled"] = option(
        "mutual_information",
        "what measures complexity (Table 4a). Two controls of adaptation measure nothing: an evaluation gives every "
        "sample another sample's mutual information (shuffled), or all of them their mean (static).",
    )
    assumed: float | None = option(
        None, "complexity that a control takes; null in an evaluation, which fills it in, and elsewhere 0."
    )
    shuffle_seed: int = option(0, "decides which sample's complexity shuffled takes.")
    quantiles: tuple[float, ...] | None = option(
        None,
        "of this host's complexity, which is then mapped onto the published range 0 to 2 before Eq. 8 (ours); null: as "
        "it is, as published. In an evaluation calibration names a file of them (senna-prune calibrate).",
    )
    curve: Shape = option("logistic", "its shape (Table 4b).")
    slope: Slope = option(
        "linear", "how complexity becomes the slope; linear is Eq. 8, the others are in the released code too."
    )
    scaling: Literal["reference", "none"] = option(
        "reference",
        "reference converts depth and heads to the published 32; none takes x0, k and the head sum as given.",
    )
    positions: Positions = "repacked"

    def __post_init__(self) -> None:
        super().__post_init__()
        control = self.indicator in ("static", "shuffled")
        self.require(self.assumed is None or control, "assumed", "it with indicator static or shuffled only")
        points = self.quantiles
        ascending = points is None or (len(points) > 1 and all(a <= b for a, b in pairwise(points)))
        self.require(ascending, "quantiles", "two or more numbers, ascending")

    # One rule for decoders other than the published one: the curve is read at depth l * 32/L (so x0 scales with L/32
    # and k with 32/L), and head-summed mutual information is scaled by 32/H.
    @property
    def depth_scale(self) -> float:
        return 1.0 if self.scaling == "none" else REFERENCE_LAYERS / self.num_layers

    @property
    def head_scale(self) -> float:
        return 1.0 if self.scaling == "none" else REFERENCE_HEADS / self.num_heads

    @property
    def needs(self) -> Set[str]:
        measured = {EMBEDDINGS} if self.indicator == "cosine" else set()
        return {TEXT_ATTENTION} | measured | (set() if self.variant == "paper" else {VISION})

    @property
    def own_accounting(self) -> bool:
        return self.variant == "released"

    def score(self, seen: Observation) -> Tensor:
        """Mean text attention; as released, behind layer 0 the vision score plus 0.3 w times it, where w is the mutual
        information per text row."""
        mean = seen.mean_attention
        if self.variant == "paper" or seen.layer > 1:
            return mean
        assert seen.rows is not None
        information = mutual_information(seen.rows, seen.slots).sum()
        weight = information * self.head_scale / seen.rows.shape[1]
        return 0.3 * weight * mean + seen.vision_score

    @property
    def measured_layer(self) -> int | None:
        control = self.indicator in ("static", "shuffled")
        return None if control and self.assumed is None else MEASURED_LAYER

    @property
    def max_complexity(self) -> float:
        # Where Eq. 8 is clamped to slope 0, and the curve is flat; the logistic slope has reached 1.
        if self.slope == "logistic":
            return 6.0
        return abs(self.k0 / self.gamma) if self.gamma else 0.0

    def complexity(self, seen: Observation) -> Tensor:
        """How tightly the question binds to the scene; high = easy (prune early).

        Mutual information is a head sum as released, a head mean in the paper variant, since the paper names no head.
        Scalings of the other indicators are not published: ours are what a text row spends on visual tokens, mean over
        heads and rows, and the mean cosine between text and visual input embeddings.
        """
        if self.assumed is not None:
            return seen.sequence.new_tensor(self.assumed, dtype=torch.float32)
        measured = self._measured(seen)
        return on_published_range(measured, self.quantiles) if self.quantiles else measured

    def _measured(self, seen: Observation) -> Tensor:
        if self.indicator == "cosine":
            assert seen.text_embeddings is not None and seen.visual_embeddings is not None
            text = F.normalize(seen.text_embeddings.float(), dim=-1).mean(0)
            return text @ F.normalize(seen.visual_embeddings.float(), dim=-1).mean(0)
        if self.indicator == "mean_attention":
            return seen.attention.float().sum(-1).mean()
        if self.variant == "paper":
            return printed_mutual_information(seen.attention).mean()
        assert seen.rows is not None
        return mutual_information(seen.rows, seen.slots).sum() * self.head_scale

    def schedule(self, num_visual: int, complexity: float | None) -> tuple[LayerCounts, str]:
        complexity = complexity or 0.0
        k = dynamic_slope(complexity, self.k0, self.gamma, self.slope)
        if self.variant == "paper":
            return self._printed(num_visual, complexity, k, self.x0 + self.beta * complexity)
        return self._released(num_visual, complexity, k)

    def _curve(self, layer: int, k: float, x0: float) -> float:
        return curve(self.curve, layer * self.depth_scale, k, x0)

    def _printed(self, num_visual: int, complexity: float, k: float, x0: float) -> tuple[LayerCounts, str]:
        """Eqs. 5-8: the curve from layer 0 on, rescaled by its analytic area, then by a factor s so that the floored
        counts meet the budget. Layers up to the one that measures complexity keep every token."""
        num_layers = self.num_layers
        area = curve_area(self.curve, k, x0, num_layers * self.depth_scale) / self.depth_scale
        # Eq. 7 divides by an area that already contains N_init; the curve meant has the budget as its own area.
        height = self.budget.mean_tokens(num_visual) * num_layers / max(area, 1e-9)
        values = [height * self._curve(layer, k, x0) for layer in range(num_layers)]

        def counts_at(log_scale: float) -> LayerCounts:
            tokens = [num_visual] * min(MEASURED_LAYER + 1, num_layers)
            for value in values[MEASURED_LAYER + 1 :]:
                tokens.append(min(max(math.floor(math.exp(log_scale) * value), 1), tokens[-1]))
            return LayerCounts((*tokens, tokens[-1]), (0,) * (num_layers + 1))

        scale = self.budget.fit(counts_at, -20.0, 20.0)
        return counts_at(scale), f"I={complexity:.2f}, k={k:.3f}, x0={x0:.2f}, s={math.exp(scale):.4f}"

    def _released(self, num_visual: int, complexity: float, k: float) -> tuple[LayerCounts, str]:
        """A cut behind layer 0, then the scaled curve behind every layer."""
        num_layers, mean = self.num_layers, self.budget.mean_tokens(num_visual)
        # The released code moves the inflection to x0 + k, Eq. 8 to x0 + beta I.
        values = [PLATEAU * self._curve(layer, k, self.x0 + k) for layer in range(1, num_layers)]
        if self.budget.accounting == "published" and values:
            target = max(round(mean), 1)
            first = min(int(CAP * target), num_visual)
            percent = released_keep_percent(values, first, target, num_visual)
            counts = simulate(first, [math.ceil((first - 1) * value) for value in percent], num_visual)
            return counts, f"I={complexity:.2f}, k={k:.3f}, scale={percent[0] / values[0]:.4f}"
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

        scale = self.budget.fit(counts_at, -20.0, 20.0)
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


def mutual_information(attention: Tensor, columns: Tensor | None = None) -> Tensor:
    """The released estimate per head, shape (heads,), float32, in bits: Eqs. 3 and 4 with base-2 logarithms, on rows
    that are not renormalised over the visual tokens.

    Args:
        attention: softmax attention from text rows to visual columns, shape (heads, queries, n).
        columns: which of the n columns are visual, if not all; cheaper than gathering them first.
    """
    rows, queries = attention.float(), attention.shape[1]
    # The joint distribution is rows / queries; dividing sums instead of all of them saves a pass over the attention.
    product = rows.sum(1, keepdim=True) / queries**2
    terms = (rows / ((product + 1e-6) * queries)).clamp_(min=1e-6).log2_().mul_(rows).sum(1)
    return (terms if columns is None else terms.index_select(-1, columns)).sum(-1) / queries


def printed_mutual_information(attention: Tensor) -> Tensor:
    """Eqs. 3 and 4 per head, shape (heads,), float32, in nats; rows are distributions over the visual tokens.

    `attention` as for `mutual_information`.
    """
    conditional = attention.float()
    conditional = conditional / conditional.sum(-1, keepdim=True).clamp(min=1e-12)
    marginal = conditional.mean(1, keepdim=True)
    ratio = torch.where(conditional > 0, conditional / marginal.clamp(min=1e-12), 1.0)
    return (conditional * ratio.log()).sum((1, 2)) / attention.shape[1]


def on_published_range(value: Tensor, quantiles: tuple[float, ...]) -> Tensor:
    """`PUBLISHED_MOST` times the share of calibration samples below `value`, linear between quantiles, 0-d float32.

    Ours, off by default. The slopes of samples like the calibration's are then spread evenly over [0, k0].

    Args:
        value: measured, 0-d.
        quantiles: at evenly spaced shares from 0 to 1 of the calibration samples, ascending, two at least.
    """
    points = constant(quantiles, torch.float32, value.device)
    upper = torch.searchsorted(points, value.float()).clamp(1, len(quantiles) - 1)
    low, high = points[upper - 1], points[upper]
    within = ((value.float() - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return PUBLISHED_MOST * (upper - 1 + within) / (len(quantiles) - 1)
