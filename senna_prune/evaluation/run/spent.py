"""Where the time of an evaluation went: in the model, waiting for pictures, or in the evaluator itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from senna_prune.evaluation.run.records import Decision

BACKGROUND = "preprocess"
"""Stage that runs in the background: the loop spends no time on it, except when it waits for its end."""

SHARED = (BACKGROUND, "vision", "adapter")
"""Stages that ran once for all conditions of a sample; the time of each is repeated in every one of its decisions."""


@dataclass
class Spent:
    """Where the time of the deciding loop went, in seconds.

    Attributes:
        total: of the loop.
        model: in the stages of the model, each as often as it ran.
        waiting: for pictures that were not ready in time.
    """

    total: float = 0.0
    model: float = 0.0
    waiting: float = 0.0

    def count(self, decisions: Sequence[Decision], *, encoding: bool) -> None:
        """Add the model's time of decisions; `encoding`: they are the first after their samples were encoded."""
        left_out = {BACKGROUND} if encoding else set(SHARED)
        for decision in decisions:
            self.model += 1e-3 * sum(time for stage, time in decision.milliseconds.items() if stage not in left_out)

    @property
    def overhead(self) -> float:
        """What the evaluator itself took."""
        return self.total - self.model - self.waiting

    def __str__(self) -> str:
        shares = [100 * part / self.total if self.total else 0.0 for part in (self.overhead, self.waiting)]
        return f"evaluator overhead {shares[0]:.1f} % of {self.total:.1f} s, waiting for pictures {shares[1]:.1f} %"
