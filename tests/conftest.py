"""Shared fixtures: where the reference data stands, if it does."""

from __future__ import annotations

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch starts: several processes share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def shared_root() -> Path:
    """Folder of the reference data: `$SENNA_PRUNE_SHARED`, else `shared/` beside the project."""
    return Path(os.environ.get("SENNA_PRUNE_SHARED", ROOT.parent / "shared"))


def shared_path(*parts: str) -> Path:
    """A path in the reference data; skips the test, saying why, where it is absent."""
    path = shared_root().joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data {'/'.join(parts)} is absent (set SENNA_PRUNE_SHARED)")
    return path


def golden_cases(pattern: str) -> list[Path]:
    """Golden files matching a glob under `goldens/`; an empty list parametrises to a skipped test."""
    return sorted((shared_root() / "goldens").glob(pattern))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
