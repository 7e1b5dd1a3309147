"""The README is one page; its trees, links, table of hosts and figures are true.

Its code blocks and commands are checked with those of the documentation (`tests/docs/test_pages.py`).
"""

from __future__ import annotations

import re

import pytest

from senna_prune.hosts.host import host_names
from senna_prune.hosts.support import verdict
from senna_prune.pruning import method_names
from tests.docs.figures import ASSETS, FIGURES, MOST_BYTES
from tests.docs.pages import DOCS
from tests.readme_tree import README, ROOT, replaced, tree

TEXT = README.read_text(encoding="utf-8")
HEADINGS = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(text: str) -> set[str]:
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in HEADINGS.findall(text)}


def test_it_is_one_page() -> None:
    assert len(TEXT.splitlines()) <= 130
    assert max(map(len, TEXT.splitlines())) <= 200


def test_the_tree_is_what_the_folders_say() -> None:
    assert tree() in TEXT, "run python -m tests.readme_tree"
    assert replaced() == TEXT


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https://)([^)]+)\)", TEXT))))
def test_links_lead_somewhere(link: str) -> None:
    path, _, anchor = link.partition("#")
    target = ROOT / path if path else README
    assert target.is_file()
    assert not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


def test_folders_and_files_in_the_table_of_places_exist() -> None:
    named = [path for path in re.findall(r"`(senna_prune/[^`]+)`", TEXT) if "<" not in path]
    assert len(named) >= 4
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_method_runs_on_every_host_as_the_readme_says() -> None:
    (sentence,) = re.findall(r"Every method runs on every host: (.+?)\.\s", TEXT.replace("\n", " "))
    shown = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in re.split(", | and ", sentence)]
    pairs = zip(shown, (kind.replace("_", "") for kind in host_names()), strict=True)
    assert [name for name, kind in pairs if not name.startswith(kind)] == []
    assert {verdict(method, kind).partition(":")[0] for method in method_names() for kind in host_names()} == {"runs"}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_small_and_say_how_they_were_made(name: str) -> None:
    assert f"docs/assets/{name}" in TEXT or name == "kept_tokens.png"
    assert (ASSETS / name).stat().st_size < MOST_BYTES
    results = (DOCS / "results.md").read_text(encoding="utf-8")
    assert f"assets/{name}" in results
    commands = re.search(r"<!-- figure: (.*tests\.docs\.figures.*) -->", TEXT)
    assert commands is not None
    assert [line for line in commands[1].split("; ") if line not in results] == []
