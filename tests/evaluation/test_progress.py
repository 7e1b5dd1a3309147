"""What a run says of its progress where nobody sees a bar."""

from __future__ import annotations

import re
import time

import pytest

from senna_prune.evaluation.run import progress
from senna_prune.evaluation.run.progress import Meter


def test_a_line_after_the_first_chunk_and_after_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with Meter(50, 2) as meter:
        for _ in range(50):
            meter.advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["2", "5", "10", "15", "20", "25", "30", "35", "40", "45", "50"]
    assert all(re.fullmatch(r"\d+ of 50 decisions \(\d+ %\) in 0 s, about 0 s to go", line) for line in lines[:-1])
    assert lines[-1] == "50 of 50 decisions (100 %) in 0 s"


def test_it_is_never_silent_for_long(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while one decision takes long, or the first."""
    monkeypatch.setattr(progress, "LONGEST_SILENCE", 0.02)
    with Meter(100) as meter:
        time.sleep(0.4)
        meter.advance(1)
        time.sleep(0.4)
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("0 of 100 decisions (0 %) in ") for line in lines) >= 2
    assert sum(line.startswith("1 of 100 decisions (1 %) in ") for line in lines) >= 2


def test_another_process_and_nothing_to_do_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Meter(10, shown=False) as meter, Meter(0):
        meter.advance(10)
    assert capsys.readouterr().err == ""
