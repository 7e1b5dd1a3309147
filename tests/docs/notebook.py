"""The notebook of the five-minute tutorial, made from its page: `python -m tests.docs.notebook` writes it anew."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.conftest import ROOT
from tests.docs.pages import DOCS, RUN

PAGE = DOCS / "tutorials" / "five-minutes.md"
NOTEBOOK = ROOT / "examples" / "five_minutes.ipynb"
_PARTS = re.compile(rf"{re.escape(RUN)}\n```python\n(.*?)```\n", re.DOTALL)
_PLACE = """\
import os
from pathlib import Path

if not Path("data/demo").exists():
    os.chdir("..")  # the demo lies beside the folder of this notebook"""


def cells() -> list[tuple[str, str]]:
    """Kind and text of every cell; links to other pages, which a notebook cannot follow, become plain text."""
    text = re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", PAGE.read_text(encoding="utf-8"))
    parts = _PARTS.split(text)
    kinds = ["code" if number % 2 else "markdown" for number in range(len(parts))]
    first, *rest = [(kind, part.strip()) for kind, part in zip(kinds, parts, strict=True) if part.strip()]
    return [first, ("code", _PLACE), *rest]


def notebook() -> str:
    """The notebook's file, without outputs."""
    made: list[dict[str, Any]] = []
    for number, (kind, text) in enumerate(cells()):
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}
        made.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook(), encoding="utf-8")
