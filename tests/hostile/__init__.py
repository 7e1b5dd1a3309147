"""Hostile inputs by group: whatever a user or a stranger's file brings, a tool answers in one line and exits with 2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest


def refused(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    main: Callable[[], int] | Callable[[Sequence[str]], int],
    arguments: Sequence[object],
    *mentions: str,
) -> str:
    """Run a tool in this process; it must exit with 2 and print one error line that holds every mention.

    Args:
        main: the tool's `main`, which takes a list of arguments or reads `sys.argv`.
        arguments: the command line.
        mentions: what the line must hold.

    Returns:
        The line.
    """
    words = [str(argument) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["tool", *words])
    capsys.readouterr()
    try:
        code = main(words) if main.__code__.co_argcount else main()  # type: ignore[call-arg]
    except SystemExit as exit_:  # argparse refuses an option this way
        code = exit_.code
    error = capsys.readouterr().err
    assert code == 2, f"exit status {code}: {error}"
    lines = [line for line in error.splitlines() if "error: " in line]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    for mention in mentions:
        assert mention in lines[0], lines[0]
    return lines[0]


def fifo(path: Path) -> Path:
    """A named pipe nobody writes to: opening it for reading would wait for ever."""
    import os

    os.mkfifo(path)
    return path
