"""Names and answers from a run's files, made safe for where they are shown."""

from __future__ import annotations

import html
import re

from rich.text import Text


def printable(text: str) -> str:
    """`text` on one line, with `?` for every character that cannot be printed or encoded."""
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)


def terminal(text: str) -> Text:
    """For rich, which would read `[name]` in a plain string as markup."""
    return Text(printable(text))


def markdown(text: str) -> str:
    """For Markdown: no HTML, no links and no end of a table cell comes from the text."""
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(printable(text), quote=False))


def csv_cell(value: object) -> object:
    """For CSV: a text that a spreadsheet would take for a formula starts with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@") else value


def latex(text: str) -> str:
    """For LaTeX: every character that it would obey becomes one that it prints."""
    return "".join(_LATEX.get(char, char) for char in printable(text))


_LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "\\": "\\textbackslash{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
}
