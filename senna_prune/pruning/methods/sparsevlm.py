"""SparseVLM, "Visual Token Sparsification for Efficient Vision-Language Model Inference" (ICML 2025)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from senna_prune.pruning.base import EMBEDDINGS, TEXT_ATTENTION, LayerCounts, Observation, Positions
from senna_prune.pruning.clusters import Clustered, merged_count
from senna_prune.pruning.options import option

Counts = tuple[float, ...]
REFERENCE_TOKENS, REFERENCE_LAYERS, REFERENCE_STAGES = 576, 32, (2, 6, 15)


@dataclass(frozen=True, kw_only=True)
class SparseVLM(Clustered):
    """Version 1: three cuts by the attention of the text tokens that the image points at; dropped tokens are clustered.

    Six views: one visual list; raters are chosen among the question's tokens. The published counts belong to 192, 128
    and 64 retained of 576; between and beyond them they are interpolated, and scaled until the budget is met.
    """

    stage = "inside, several times"
    needs = frozenset({TEXT_ATTENTION, EMBEDDINGS})
    own_accounting = True
    layers: tuple[int, ...] | None = option(
        None, "layers after which tokens are cut; by default 2, 6, 15 of 32, in proportion at other depths."
    )
    counts: tuple[int, ...] | None = option(None, "tokens kept at each cut, in place of the budget.")
    positions: Positions = "repacked"
    merges: ClassVar[bool] = True
    published: ClassVar[Mapping[int, Counts]] = {64: (66, 30, 17), 128: (303, 110, 36), 192: (300, 200, 110)}

    def __post_init__(self) -> None:
        super().__post_init__()
        layers = REFERENCE_STAGES if self.layers is None else self.layers
        counts = (1, 1, 1) if self.counts is None else self.counts
        self.require(len(layers) == 3, "layers", "three layers")
        self.require(layers[0] >= 0 and list(layers) == sorted(set(layers)), "layers", "rising layers from 0 on")
        self.require(len(counts) == 3 and min(counts) >= 1, "counts", "three counts, 1 or more each")

    @property
    def fixed(self) -> str:
        return "" if self.counts is None else "counts are fixed by options"

    def schedule(self, num_visual: int, complexity: float | None) -> tuple[LayerCounts, str]:
        """Cuts in published proportions; a common factor on the counts is solved for."""
        unit = num_visual / REFERENCE_TOKENS
        shape = interpolated_counts(self.published, self.budget.mean_tokens(num_visual) / unit)
        layers = self.layers or _stages_at(self.num_layers)

        def counts_at(log_factor: float) -> LayerCounts:
            wanted = self.counts or [max(round(math.exp(log_factor) * unit * count), 1) for count in shape]
            cuts = {layer + 1: count for layer, count in zip(layers, wanted, strict=True)}
            tokens, merged = [num_visual], [0]
            for boundary in range(1, self.num_layers + 1):
                cut = boundary in cuts and boundary < self.num_layers
                keep = max(min(cuts[boundary], tokens[-1] - 1), 1) if cut else tokens[-1]
                merged.append(merged_count(tokens[-1] - keep) if self.merges else 0)
                tokens.append(keep + merged[-1])
            return LayerCounts(tuple(tokens), tuple(merged))

        solved = not self.fixed and self.budget.accounting == "entering"
        factor = self.budget.fit(counts_at, -9.0, 9.0) if solved else 0.0
        return counts_at(factor), f"factor {math.exp(factor):.3f} after layers {', '.join(map(str, layers))}"

    def score(self, seen: Observation) -> Tensor:
        """Attention from raters: text tokens whose share of softmax(visual @ text^T) over text, averaged over the
        visual tokens, is above the mean."""
        assert seen.text_embeddings is not None and seen.visual_embeddings is not None
        affinity = seen.visual_embeddings.float() @ seen.text_embeddings.float().T
        share = affinity.softmax(-1).mean(0)
        above = share > share.mean()
        rater = (above | ~above.any()).float()  # a single text token is not above its own mean
        return (self.by_rater(seen, rater).mean(0) * rater[:, None]).sum(0) / rater.sum()

    def by_rater(self, seen: Observation, rater: Tensor) -> Tensor:
        """Attention from text to visual tokens, shape (heads, queries, n); `rater` is 1 or 0 per query."""
        return seen.attention


def interpolated_counts(published: Mapping[int, Counts], retained: float) -> Counts:
    """Published counts for a number of retained tokens; linear between the published numbers, 0 and 576."""
    table = {0: (0.0, 0.0, 0.0), **published, REFERENCE_TOKENS: (REFERENCE_TOKENS,) * 3}
    low = max(label for label in table if label <= retained)
    high = min(label for label in table if label >= retained)
    weight = (retained - low) / (high - low) if high > low else 0.0
    return tuple(a + weight * (b - a) for a, b in zip(table[low], table[high], strict=True))


def _stages_at(num_layers: int) -> tuple[int, ...]:
    scaled = [max(round((layer + 1) * num_layers / REFERENCE_LAYERS) - 1, 0) for layer in REFERENCE_STAGES]
    return tuple(max(layer, i) for i, layer in enumerate(scaled))
