"""Repeat the choices of one run in another: a choice flips with the last bit of a score, and every number behind it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from senna_prune.pruning.base import Observation, Selection
from senna_prune.pruning.ordering import Ordered


class Recorder:
    """A pruner that notes what it measures and selects, or repeats what others have noted.

    Repeating, it still scores and measures, and holds the numbers against the noted ones. Of scores that are an order
    of tokens, and thus choices themselves, it compares what they are computed from.

    Args:
        pruner: the pruner that chooses.
        given: one recorder per sample of the batch, each of a prefill of that sample alone; None: choose and note.
        atol, rtol: how far scores and complexities may lie from the noted ones.
    """

    def __init__(
        self, pruner: Any, given: Sequence[Recorder] | None = None, atol: float = 1e-5, rtol: float = 1e-3
    ) -> None:
        self.pruner, self.given = pruner, given
        self.tolerance = {"atol": atol, "rtol": rtol}
        self.noted: defaultdict[tuple[str, int], list[Any]] = defaultdict(list)
        self.pending: defaultdict[tuple[str, int], deque[Any]] = defaultdict(deque)
        for one in given or ():
            for key, values in one.noted.items():
                self.pending[key].extend(values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pruner, name)

    def complexity(self, seen: Observation) -> Tensor:
        return self.settle("complexity", seen.layer, self.pruner.complexity(seen))

    def select(self, observation: Observation, keep_total: int, merged: int) -> Selection:
        observation = replace(observation, keep=keep_total - merged)
        score = self.pruner.score(observation)
        compared = observation.hidden if isinstance(self.pruner, Ordered) else score
        self.settle("score", observation.layer, compared)
        if self.given is not None:
            return self.pending["selection", observation.layer].popleft()
        selection = self.pruner.select(observation, keep_total, merged)
        self.noted["selection", observation.layer].append(selection)
        return selection

    def settle(self, kind: str, layer: int, value: Tensor) -> Tensor:
        """Note a number, or compare it with the noted one and return that."""
        if self.given is None:
            self.noted[kind, layer].append(value.clone())
            return value
        known: Tensor = self.pending[kind, layer].popleft()
        torch.testing.assert_close(value, known, **self.tolerance)
        return known

    def all_repeated(self) -> bool:
        """Whether every noted choice has been taken up."""
        return not any(self.pending.values())
