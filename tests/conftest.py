"""Shared fixtures: where the reference data stands, if it does."""

from __future__ import annotations

import atexit
import lzma
import os
import shutil
import tempfile
from functools import cache
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


@cache
def goldens() -> Path:
    """Numbers recorded from the reference implementations: all of them in the reference data, else those kept here."""
    if (found := shared_root() / "goldens").is_dir():
        return found
    unpacked = Path(tempfile.mkdtemp(prefix="goldens-"))
    atexit.register(shutil.rmtree, unpacked, ignore_errors=True)
    shutil.copytree(ROOT / "tests" / "goldens", unpacked, dirs_exist_ok=True)
    for packed in list(unpacked.rglob("*.xz")):  # weights, a sixth smaller so
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
    return unpacked


def golden_cases(pattern: str) -> list[Path]:
    """Golden files matching a glob; an empty list parametrises to a skipped test."""
    return sorted(goldens().glob(pattern))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
