"""The example of a planning loop runs, on any checkpoint and planning set."""

from __future__ import annotations

import re
import runpy

import pytest

from tests.conftest import ROOT

EXAMPLE = runpy.run_path(str(ROOT / "examples" / "planner_loop.py"))


@pytest.mark.parametrize("method", ["fastervlm", "none"])
def test_every_keyframe_gets_a_plan(arguments: list[str], method: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert EXAMPLE["main"]([*arguments, "--hurry", "--frames", "3", "--method", method]) == 0
    output = capsys.readouterr().out
    assert len(re.findall(r"^t0 .*ms.*visual tokens$", output, flags=re.MULTILINE)) == 3
    assert re.search(r"of 3 plans came later", output)
    assert "48 visual" in output if method == "none" else "12 visual" in output


def test_a_wrong_path_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert EXAMPLE["main"]([*arguments, "--planning-set", "/no/such.jsonl"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("/no/such.jsonl: no such planning set")


def test_histogram_counts_every_latency_and_the_late_ones() -> None:
    text = EXAMPLE["histogram"]([0.1, 0.2, 0.2, 0.7])
    bars = re.findall(r"ms #* +(\d+)$", text, flags=re.MULTILINE)
    assert sum(map(int, bars)) == 4
    assert "median 200 ms" in text
    assert "1 of 4 plans came later" in text
    assert "1 of 1" in EXAMPLE["histogram"]([0.9])
