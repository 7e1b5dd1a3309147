"""Policies whose choice is known in advance, to test the engine apart from every published method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from senna_prune.pruning.base import LayerCounts, Observation, Selection


@dataclass(frozen=True)
class ScriptedPruner:
    """Keeps what `choose(observation, count)` says, after a fixed schedule of fractions of the visual tokens.

    Attributes:
        fractions: share of the visual tokens entering each layer.
        choose: indices into the current visual list; default: every other token, then the first ones.
        merge: at each cut one of the kept places goes to the mean of the dropped tokens, anchored at the last of them.
    """

    fractions: tuple[float, ...]
    choose: Callable[[Observation, int], Tensor] | None = None
    merge: bool = False
    name: str = "scripted"
    needs: frozenset[str] = frozenset()
    positions: str = "original"
    text_scope: str = "question"
    measured_layer: int | None = None
    complexity: Callable[[Observation], Tensor] | None = None
    seen: list[Observation] = field(default_factory=list)

    def plan(
        self, num_visual: int, num_layers: int, complexity: float | None = None, text: int | None = None
    ) -> LayerCounts:
        tokens = tuple(round(f * num_visual) for f in self.fractions)
        assert len(tokens) == num_layers
        cuts = [i > 0 and tokens[i] < tokens[i - 1] for i in range(num_layers)]
        merged = tuple(int(self.merge and cut) for cut in cuts)
        return LayerCounts((*tokens, tokens[-1]), (*merged, 0))

    def select(self, observation: Observation, keep_total: int, merged: int) -> Selection:
        self.seen.append(observation)
        n, count = observation.origin.shape[0], keep_total - merged
        spread = torch.cat([torch.arange(0, n, 2), torch.arange(1, n, 2)])
        keep = (self.choose(observation, count) if self.choose else spread[:count]).sort().values
        if not merged:
            return Selection(keep)
        dropped = torch.ones(n, dtype=torch.bool)
        dropped[keep] = False
        mean = observation.hidden[dropped].mean(0, keepdim=True)
        return Selection(keep, merged=mean, anchors=dropped.nonzero()[-1])
