"""What was kept, where: a record of one pruned prefill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from senna_prune.devices import read_together
from senna_prune.pruning.base import LayerCounts


@dataclass
class SampleTrace:
    """One sample of one prefill.

    Attributes:
        counts: how many visual tokens enter each layer.
        num_visual: visual tokens of the unpruned prompt.
        num_text: text tokens of the prompt; they enter every layer.
        num_views: camera views.
        complexity: the number that chose the counts, None for static methods.
        origins: per layer, index in the original visual list of each token entering it (negative: merged), (n,).
        views: per layer, view number of each token entering it, (n,).
    """

    counts: LayerCounts
    num_visual: int
    num_text: int
    num_views: int
    complexity: float | None = None
    origins: list[Tensor] = field(default_factory=list)
    views: list[Tensor] = field(default_factory=list)

    @property
    def entering(self) -> tuple[int, ...]:
        """Visual tokens entering each of the L layers, counted on the tensors that entered."""
        return tuple(origin.shape[0] for origin in self.origins)

    @property
    def after(self) -> tuple[int, ...]:
        """Visual tokens after each of the L layers (published accounting)."""
        return (*self.entering[1:], self.counts.tokens[-1])

    def per_view(self) -> list[list[int]]:
        """Visual tokens entering each layer by view: L rows of num_views counts."""
        return [views.bincount(minlength=self.num_views).tolist() for views in self.views]

    def kept(self) -> list[list[int]]:
        """Per layer the original indices of the tokens entering it; merged tokens are left out."""
        return [origin[origin >= 0].tolist() for origin in self.origins]


@dataclass
class PruneTrace:
    """Traces of the latest prefill under a `prune` context, one per sample of the batch.

    Attributes:
        samples: in batch order; empty until a prefill has run.
        cache_lengths: padding aside, tokens of each layer's cache right after prefill, (L, batch).
    """

    samples: list[SampleTrace] = field(default_factory=list)
    cache_lengths: list[list[int]] = field(default_factory=list)

    def to_host(self, others: Sequence[Tensor] = ()) -> list[Tensor]:
        """Bring the samples to the host, and `others`, which are returned, in the same copy."""
        kept = {id(one): one for sample in self.samples for one in (*sample.origins, *sample.views)}
        found = read_together([*others, *kept.values()])
        on_host = dict(zip(kept, found[len(others) :], strict=True))
        for sample in self.samples:
            for layers in (sample.origins, sample.views):
                layers[:] = [on_host[id(one)] for one in layers]
        return found[: len(others)]
