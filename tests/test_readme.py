"""The README's architecture tree stays true, and the commands it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.readme_tree import replaced, tree

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_tree_is_what_the_files_say() -> None:
    assert replaced(README) == README, "run python -m tests.readme_tree"
    assert tree() in README


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\b(?:tools|configs|examples)/[\w/]+\.(?:py|yaml)", README))))
def test_files_named_in_the_readme_exist(path: str) -> None:
    assert (ROOT / path).is_file()
