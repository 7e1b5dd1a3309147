"""One process or several (`accelerate launch`): who does which samples, and waiting for each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from senna_prune.errors import RunError, brief, one_line

T = TypeVar("T")

JOIN_WAIT = timedelta(minutes=2)
"""How long the processes of a launch may take to find each other: they start at the same moment."""
LONGEST_WAIT = timedelta(days=7)
"""One process may work so much longer on its share than another before the wait for it is given up."""

_HINT = "start all processes with accelerate launch, or unset WORLD_SIZE to run in one"


@dataclass(frozen=True)
class Processes:
    """This process among its siblings; `group` is torch's process group, None for a process that is alone."""

    rank: int = 0
    count: int = 1
    group: Any = None

    @classmethod
    def current(cls, *, cpu: bool = False) -> Processes:
        """Join the processes that `accelerate launch` or `torchrun` started; alone where neither did.

        Processes only wait for each other and exchange no tensors, so they are joined over gloo on every device.

        Args:
            cpu: leave the choice of this process's CUDA device alone.

        Raises:
            RunError: the variables that a launch sets are wrong or incomplete, or the other processes do not come.
        """
        count = _number("WORLD_SIZE") if "WORLD_SIZE" in os.environ else 1
        if count < 2:
            return cls()
        rank = _number("RANK")
        place = f"{os.environ.get('MASTER_ADDR', '')}:{_number('MASTER_PORT')}"
        import torch
        from torch import distributed

        try:
            if not distributed.is_initialized():
                distributed.init_process_group("gloo", timeout=JOIN_WAIT)
            group = distributed.new_group(timeout=LONGEST_WAIT, backend="gloo")
        except (RuntimeError, ValueError) as error:
            reason = one_line(error)
            problem = f"{count - 1} other process(es) did not come to {place} within {JOIN_WAIT.seconds} s ({reason})"
            raise RunError(problem, where=f"process {rank} of {count}", hint=_HINT) from error
        if not cpu and torch.cuda.is_available():
            local = _number("LOCAL_RANK")
            if local >= torch.cuda.device_count():
                problem = f"there are only {torch.cuda.device_count()} CUDA devices"
                raise RunError(problem, where=f"process {local} of this machine", hint="start one process per device")
            torch.cuda.set_device(local)
        return cls(rank, count, group)

    @property
    def main(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part; the parts of all processes are disjoint and complete."""
        return list(items[self.rank :: self.count])

    def wait(self) -> None:
        """Until every process has come here; raises RunError when one has ended early."""
        if self.group is None:
            return
        from torch import distributed

        try:
            distributed.barrier(group=self.group)
        except RuntimeError as error:
            hint = "see its message; then run the same command again: every finished decision is kept"
            raise RunError("another process of this run has ended", where=f"process {self.rank}", hint=hint) from error


def _number(name: str) -> int:
    """A whole number from an environment variable that a launch sets."""
    text = os.environ.get(name)
    if text is None or not text.isdecimal():
        problem = "is not set, but WORLD_SIZE is" if text is None else f"{brief(text)} is no whole number"
        raise RunError(problem, where=name, hint=_HINT)
    return int(text)
