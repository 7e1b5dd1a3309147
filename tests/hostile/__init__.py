"""Hostile inputs by group: whatever a user or a stranger's file brings, a tool answers in one line and exits with 2."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
    os.mkfifo(path)
    return path


def change(path: Path, way: str, value: Any = ..., number: int = 0) -> None:
    """Set a value in a JSON file or in one of its lines.

    Args:
        way: names and numbers with dots between; without any the whole.
        value: `...` deletes, a function gets the old one.
    """
    lines = path.suffix == ".jsonl"
    text = path.read_text("utf-8")
    parts = text.splitlines() if lines else [text]
    whole = [json.loads(parts[number])]
    *before, last = (int(part) if part.isdigit() else part for part in f"0.{way}".strip(".").split("."))
    at: Any = whole
    for part in before:
        at = at[part]
    if value is ...:
        at.pop(last)
    else:
        at[last] = value(at[last]) if callable(value) else value
    parts[number] = json.dumps(whole[0])
    path.write_text("\n".join(parts) + "\n", "utf-8")
