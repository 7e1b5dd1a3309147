"""Sentences of a page, and those that are too long: `python -m tests.docs.prose [PAGE ...]` prints them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.docs.pages import PAGES

LONGEST = 25
"""Words of a sentence; inline code and a link's text count as they are read, code as one word."""
_NO_PROSE = re.compile(r"^```(?s:.*?)^```|<!--(?s:.*?)-->|^\|.*$|^#.*$|^:::.*(?:\n {4}.*)*|^---$", re.MULTILINE)
_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )|^!!! .*$", re.MULTILINE)
_END = re.compile(r"(?<=[.!?])[)*\"]*\s+(?=[\"(`*\[]*[A-Z`\[0-9])")


def sentences(text: str) -> list[str]:
    """The sentences of a Markdown page outside code, tables and headings; a list's items end theirs."""
    plain = re.sub(r"`[^`]+`", "`code`", re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", _NO_PROSE.sub("\n\n", text)))
    parts = (" ".join(part.split()) for part in _PARAGRAPH.split(plain))
    return [one for part in parts for one in _END.split(part) if re.search(r"\w", one)]


def too_long(text: str) -> list[str]:
    return [one for one in sentences(text) if len(re.findall(r"[\w`][^\s]*", one)) > LONGEST]


if __name__ == "__main__":
    for page in [Path(name) for name in sys.argv[1:]] or PAGES:
        for one in too_long(page.read_text(encoding="utf-8")):
            print(f"{page.name}: {len(one.split())}: {one}")
