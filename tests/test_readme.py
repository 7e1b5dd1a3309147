"""The README's architecture tree stays true, and the commands it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_tree_names_every_file_and_no_other() -> None:
    tree = README.split("## Architecture")[1].split("```")[1]
    named: set[str] = set()
    folders: list[str] = []
    for line in tree.strip().splitlines():
        name = line.split()[0]
        folders = folders[: (len(line) - len(line.lstrip())) // 2]
        if name.endswith("/"):
            folders.append(name)
        elif name.endswith(".py"):
            named.add("".join(folders) + name)
    found = {
        str(file.relative_to(ROOT))
        for folder in ("senna_prune", "tools", "examples")
        for file in (ROOT / folder).rglob("*.py")
        if file.name != "__init__.py"
    }
    assert named == found


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\b(?:tools|configs|examples)/[\w/]+\.(?:py|yaml)", README))))
def test_files_named_in_the_readme_exist(path: str) -> None:
    assert (ROOT / path).is_file()
