"""The configurations and the demo that come with the package, for whoever works outside a checkout."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = ("configs", "data")
"""Folders of the repository that the wheel holds too; in a checkout they are links inside the package."""


def bundled(name: str | Path) -> Path:
    """A file or folder as named; where it does not exist, the package's own copy if it has one.

    Args:
        name: a path. Only one that begins with `configs/` or `data/` can mean a copy of the package.
    """
    path = Path(name)
    copy = PACKAGE / path
    # Not `Path.exists`, which fails for a name that is too long.
    if "/".join(path.parts[:1]) in FOLDERS and not os.path.exists(path) and os.path.exists(copy):  # noqa: PTH110
        return copy
    return path
