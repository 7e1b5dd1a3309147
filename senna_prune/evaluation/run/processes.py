"""One process or several (`accelerate launch`): who does which samples, and waiting for each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")

LONGEST_WAIT = timedelta(days=7)
"""A shard may run this much longer than another before the wait for it counts as lost."""


@dataclass(frozen=True)
class Processes:
    """This process among its siblings."""

    rank: int = 0
    count: int = 1
    state: Any = None

    @classmethod
    def current(cls, *, cpu: bool = False) -> Processes:
        """Join the processes that `accelerate launch` started; alone otherwise, without importing accelerate."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        import torch
        from accelerate import PartialState

        # Without the flag accelerate takes processes without CUDA for strangers, each the first of one.
        state = PartialState(cpu=cpu or not torch.cuda.is_available(), timeout=LONGEST_WAIT)
        return cls(state.process_index, state.num_processes, state)

    @property
    def main(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part; the parts of all processes are disjoint and complete."""
        return list(items[self.rank :: self.count])

    def wait(self) -> None:
        """Until every process has come here."""
        if self.state is not None:
            self.state.wait_for_everyone()
