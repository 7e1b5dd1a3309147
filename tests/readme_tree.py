"""The README's tree of folders, from docstrings: `python -m tests.readme_tree` writes it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
WIDTH = 150
BESIDE = {
    "tools": "The same commands as files; `demo/` makes the bundled world and trains its driver",
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


def folders(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, summary) of a package, and of the packages right in it, indented."""
    yield f"{folder.name}/", summary(folder / "__init__.py")
    for inner in sorted(folder.iterdir()):
        if (inner / "__init__.py").exists():
            yield f"  {inner.name}/", summary(inner / "__init__.py")


def aligned(lines: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines) + 1
    return "\n".join(f"{name:<{width}}{text}".rstrip() for name, text in lines)


def tree() -> str:
    """One line per folder."""
    return aligned([*folders(ROOT / "senna_prune"), *((f"{name}/", text) for name, text in BESIDE.items())])


def replaced() -> str:
    """The README with the tree between its marks made anew."""
    text, made = README.read_text(encoding="utf-8"), tree()
    return re.sub(r"(?s)(<!-- tree -->\n```text\n).*?(\n```)", lambda m: m[1] + made + m[2], text, count=1)


if __name__ == "__main__":
    README.write_text(replaced(), encoding="utf-8")
