"""One prompt of a batch on its way through the decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from senna_prune.devices import moved
from senna_prune.engine.sequence import TokenState
from senna_prune.engine.trace import SampleTrace
from senna_prune.pruning.base import VisionScores


@dataclass
class Sample:
    """One prompt of the batch.

    Attributes:
        state: its tokens that are left.
        start: column at which it begins in the batch at hand.
        trace: its record; the counts in it decide every cut.
        vision: what the vision tower saw.
        embeddings: decoder inputs of the text queries and of the visual tokens, if asked for.
        rows: attention rows that complexity has read and the scorer will read again.
    """

    state: TokenState
    start: int
    trace: SampleTrace
    vision: VisionScores | None
    embeddings: tuple[Tensor, Tensor] | None = None
    rows: Tensor | None = None
    _recorded: TokenState | None = None

    @property
    def span(self) -> slice:
        """Its columns in the batch at hand."""
        return slice(self.start, self.start + self.state.length)

    @property
    def prompt(self) -> slice:
        """The columns of them that hold its prompt."""
        return slice(self.start, self.start + self.state.prompt_length)

    def cut_at(self, boundary: int) -> bool:
        """Whether tokens leave or are merged at `boundary`."""
        counts = self.trace.counts
        return counts.tokens[boundary] != self.state.num_visual or bool(counts.merged[boundary])

    def record(self) -> None:
        """Note in the trace what enters the next layer; layers without a cut between them share their record."""
        new, self._recorded = self._recorded is not self.state, self.state
        for known, entering in (self.trace.origins, self.state.origin), (self.trace.views, self.state.views):
            known.append(entering if new else known[-1])

    def move(self, device: torch.device) -> None:
        """Follow the hidden states to the device of the next layers."""
        self.state = self.state.to(device)
        if self.vision is not None:
            keys = self.vision.keys
            self.vision = VisionScores(moved(self.vision.score, device), None if keys is None else moved(keys, device))
        if self.embeddings is not None:
            self.embeddings = (moved(self.embeddings[0], device), moved(self.embeddings[1], device))
