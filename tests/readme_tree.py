"""The README's architecture tree, made from each file's first line: `python -m tests.readme_tree` writes it anew."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 150


def summary(file: Path) -> str:
    """First sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    first = " ".join(text.split("\n\n")[0].split())
    first = re.split(r"(?<=[a-z)`])\. ", first)[0].rstrip(".")
    return first if len(first) <= WIDTH else first[: WIDTH - 4].rsplit(" ", 1)[0] + " ..."


def rows(folder: Path, depth: int) -> Iterator[tuple[str, str]]:
    """(indented name, summary) of a folder, its files and its sub-folders."""
    initial = folder / "__init__.py"
    yield f"{'  ' * depth}{folder.name}/", summary(initial) if initial.exists() and depth else ""
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            yield f"{'  ' * (depth + 1)}{file.name}", summary(file)
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"):
        if (inner / "__init__.py").exists():
            yield from rows(inner, depth + 1)
        elif names := sorted(path.name for path in inner.iterdir() if path.is_file()):
            yield f"{'  ' * (depth + 1)}{inner.name}/", ", ".join(names)


def tree() -> str:
    """One line per folder and file of the product."""
    lines = [row for folder in ("senna_prune", "tools", "examples") for row in rows(ROOT / folder, 0)]
    width = max(len(name) for name, _ in lines) + 1
    return "\n".join(f"{name:<{width}}{text}".rstrip() for name, text in lines)


def replaced(document: str) -> str:
    """A document with the tree between its marks made anew."""
    return re.sub(r"(?s)(<!-- tree -->\n```\n).*?(\n```)", lambda m: m[1] + tree() + m[2], document, count=1)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(replaced(readme.read_text(encoding="utf-8")), encoding="utf-8")
