"""The documentation's pages, the README among them, and their Python blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
RUN = "<!-- run -->"
_BLOCK = re.compile(r"^(?P<mark><!--[^\n]*-->)?\n?```python\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A Python block, the mark on the line before it, and the line it begins at."""

    mark: str
    code: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = _BLOCK.finditer(text)
    return [Block(one["mark"] or "", one["code"], text.count("\n", 0, one.start("code")) + 1) for one in found]


def program(page: Path) -> str:
    """The page's runnable blocks as one program whose errors name the page's own lines."""
    lines: list[str] = []
    for block in blocks(page):
        if block.mark == RUN:
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    return "\n".join(lines)
