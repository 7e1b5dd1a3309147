"""Fixtures of the evaluation tests."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True, scope="session")
def _frozen_imports() -> None:
    """statsmodels collects garbage in every Holm correction; what the imports left behind need not be searched."""
    gc.freeze()
