"""Senna passes transformers' own model tests, in a process of their own, as they alter tables of transformers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance import mixin
from tests.conftest import ROOT

CASES = Path(__file__).with_name("senna_cases.py")


@pytest.mark.slow
def test_senna_passes_transformers_own_model_tests() -> None:
    pytest.importorskip("parameterized", reason="transformers' tests import it: pip install parameterized")
    try:
        mixin.source_file()
    except mixin.SourceUnavailableError as error:
        pytest.skip(str(error))
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "--tb=short", CASES]
    # Everywhere the same tests, also beside an accelerator.
    environment = os.environ | {"TRANSFORMERS_TEST_DEVICE": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    report = done.stdout[-10_000:] + done.stderr[-2_000:]
    assert done.returncode == 0, report
    passed = re.search(r"(\d+) passed", done.stdout.splitlines()[-1])
    assert passed is not None and int(passed[1]) >= 100, report


def test_without_an_index_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixin, "CACHE", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(mixin.SourceUnavailableError, match=f"transformers=={mixin.VERSION}"):
        mixin.source_file()
