"""One fixture for all: a command line that must be refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.hostile import refused

Refuse = Callable[..., str]


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """`refused` with its fixtures: takes a tool's `main`, its arguments and what the line must hold."""
    return lambda main, arguments, *mentions: refused(capsys, monkeypatch, main, arguments, *mentions)
