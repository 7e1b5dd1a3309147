"""What a user sees while a run is under way: how far it is, and the time left."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LONGEST_SILENCE = 30.0
"""Seconds after which a run whose output is no terminal says where it is."""


class Meter:
    """Progress on standard error: a bar on a terminal, else a line after each tenth and `LONGEST_SILENCE`.

    Args:
        total: decisions to make.
        first: decisions after which the time left can be told.
        shown: whether this process speaks, of several that work together.
    """

    def __init__(self, total: int, first: int = 1, *, shown: bool = True) -> None:
        self._total, self._first, self._done = total, first, 0
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._speaks = shown and not console.is_terminal
        self._progress = Progress(*columns, console=console, disable=not shown or self._speaks)
        self._task = self._progress.add_task("deciding", total=total)
        self._over, self._clock = threading.Event(), threading.Thread(target=self._break_silence, daemon=True)

    def __enter__(self) -> Meter:
        self._progress.start()
        self._started = self._last = time.monotonic()
        if self._speaks and self._total:
            self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._over.set()
        if self._clock.ident:
            self._clock.join()

    def advance(self, decisions: int) -> None:
        before, self._done = self._done, self._done + decisions
        self._progress.advance(self._task, decisions)
        tenth = 10 * before // self._total < 10 * self._done // self._total
        if self._speaks and (tenth or before < self._first <= self._done):
            self._say()

    def _break_silence(self) -> None:
        while not self._over.wait(max(0.0, self._last + LONGEST_SILENCE - time.monotonic())):
            if time.monotonic() >= self._last + LONGEST_SILENCE:
                self._say()

    def _say(self) -> None:
        self._last = time.monotonic()
        taken, done = self._last - self._started, self._done
        line = f"{done} of {self._total} decisions ({100 * done // self._total} %) in {duration(taken)}"
        if self._first <= done < self._total:
            line += f", about {duration(taken * (self._total / done - 1))} to go"
        self._progress.console.print(line, highlight=False)


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
