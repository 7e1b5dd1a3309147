"""Fixtures of the evaluation tests."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from senna_prune.evaluation.run import run_key
from tests.evaluation.dummy import make_planning_set


@pytest.fixture(autouse=True, scope="session")
def _frozen_imports() -> None:
    """statsmodels collects garbage in every Holm correction; what the imports left behind need not be searched."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _one_code_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources may change while tests run; that alone must not make a run another."""
    monkeypatch.setattr(run_key, "code_version", lambda: "one version")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve samples of four scenes, for the dummy system."""
    make_planning_set(tmp_path / "data", scenes=4, per_scene=3)
    return tmp_path / "data"
