"""Copies the README's two figures from a reported run: `python -m tests.docs.figures runs/readme`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from tests.docs.pages import DOCS

FIGURES = {
    "kept_tokens.png": "kept_tokens.png",
    "accuracy_by_time.png": "plots/accuracy_by_time_corrected.png",
}
"""Where each lies in a run's folder, by its name in docs/assets."""
ASSETS = DOCS / "assets"
WIDEST = 1300
MOST_BYTES = 300_000


def copy_figures(run: Path) -> None:
    """Copy the figures, at most `WIDEST` pixels wide, in all their colours: a palette loses the small red lights."""
    for name, place in FIGURES.items():
        picture = Image.open(run / place).convert("RGB")
        picture.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
        picture.save(ASSETS / name, optimize=True)


if __name__ == "__main__":
    copy_figures(Path(sys.argv[1]))
