"""Trees of folders (README) and files (docs), from docstrings: `python -m tests.readme_tree` writes both."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "explanation" / "architecture.md"
WIDTH = 150
BESIDE = {
    "tools": "The same commands as files, for `accelerate launch` and a checkout",
    "configs": "Settings of every table and benchmark, in YAML",
    "data": "The bundled demo; your nuScenes and weights may go here",
    "docs": "Tutorials, how-to pages, explanations, reference, results, limits",
    "examples": "A planning loop, a planning set of your own, prompt embeddings, view weights",
    "tests": "The same folders as `senna_prune`; `fakes.py` has a tiny random Senna",
}
"""Folders beside the package, which have no docstring of their own."""


def summary(file: Path) -> str:
    """First sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    first = " ".join(text.split("\n\n")[0].split())
    first = re.split(r"(?<=[a-z)`])\. ", first)[0].rstrip(".")
    return first if len(first) <= WIDTH else first[: WIDTH - 4].rsplit(" ", 1)[0] + " ..."


def folders(folder: Path, depth: int = 0) -> Iterator[tuple[str, str]]:
    """(indented name, summary) of a package and the packages in it."""
    yield f"{'  ' * depth}{folder.name}/", summary(folder / "__init__.py")
    for inner in sorted(folder.iterdir()):
        if (inner / "__init__.py").exists():
            yield from folders(inner, depth + 1)


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


def aligned(lines: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines) + 1
    return "\n".join(f"{name:<{width}}{text}".rstrip() for name, text in lines)


def tree(document: Path) -> str:
    """One line per folder for the README; one per folder and file of the product for the documentation."""
    if document == README:
        return aligned([*folders(ROOT / "senna_prune"), *((f"{name}/", text) for name, text in BESIDE.items())])
    return aligned([row for folder in ("senna_prune", "tools", "examples") for row in rows(ROOT / folder, 0)])


def replaced(document: Path) -> str:
    """A document's text with the tree between its marks made anew."""
    text, made = document.read_text(encoding="utf-8"), tree(document)
    return re.sub(r"(?s)(<!-- tree -->\n```text\n).*?(\n```)", lambda m: m[1] + made + m[2], text, count=1)


if __name__ == "__main__":
    for path in (README, ARCHITECTURE):
        path.write_text(replaced(path), encoding="utf-8")
