"""The documentation's code runs, its commands exist, and the site builds without a warning."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path

import pytest

from docs.hooks import on_page_markdown
from senna_prune.benchmark.settings import BenchmarkConfig
from senna_prune.commands.__main__ import COMMANDS
from senna_prune.config import EvaluationConfig, _keys, load_config
from tests.conftest import ROOT
from tests.docs.pages import PAGES, RUN, blocks, program
from tests.docs.prose import too_long

REASON = re.compile(r"<!-- not run: \S.+ -->")
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
UNDER_REVISION = {"docs/results.md", "docs/performance.md"}
"""Pages whose sentences may still be long."""
RUNNABLE = [name for name, page in zip(NAMES, PAGES, strict=True) if program(page)]


@pytest.mark.parametrize("name", NAMES)
def test_every_python_block_is_run_or_says_why_not(name: str) -> None:
    for block in blocks(ROOT / name):
        assert block.mark == RUN or REASON.fullmatch(block.mark), f"{name}:{block.line}: {block.mark!r}"
        compile(block.code, name, "exec")


@pytest.mark.parametrize("name", sorted({*NAMES} - UNDER_REVISION))
def test_a_page_says_what_it_is_for_and_has_no_long_sentence(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert too_long(text) == []
    if name.startswith("docs/") and "--8<--" not in text.split("\n", 1)[0]:
        assert re.match(r"# .+\n\n(After|From|On|You).* can ", text), "begin with what a reader can do after this page"


@pytest.mark.parametrize("name", RUNNABLE)
@pytest.mark.slow
def test_the_code_of_a_page_runs(name: str, tmp_path: Path) -> None:
    """In a process and a folder of its own, as a reader would run it; only the demo is at hand."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "page.py").write_text(program(ROOT / name), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{name} (lines are the page's):\n{done.stderr}"
    assert done.stdout, f"{name} prints nothing"


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_files_that_a_page_names_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
    used = re.findall(r"(?:senna-prune|senna_prune\.commands) ([a-z-]+)", code)
    assert set(used) <= set(COMMANDS), f"no such subcommand in {name}"
    files = re.findall(r"\b(?:tools|configs|examples|senna_prune)/[\w/]+\.(?:py|yaml)", text)
    assert [path for path in files if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize(
    ("schema", "key", "value"),
    [(BenchmarkConfig, "host.layers", "32"), (EvaluationConfig, "pruning.retentions", "[0.25]")],
)
def test_the_settings_page_shows_every_setting_with_its_value(schema: type, key: str, value: str) -> None:
    """As a hook of the site makes it; `load_config` reads each default back as it is shown."""
    mark = f"<!-- settings: {schema.__module__}.{schema.__name__} -->"
    assert mark in (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| `(\S+)` \| `(.*?)` \| \S", on_page_markdown(mark), re.MULTILINE))
    assert shown[key] == value
    assert shown.keys() == {name for name, kind in _keys(schema) if not is_dataclass(kind)}
    assert load_config(schema, overrides=[f"{name}={text}" for name, text in shown.items()]) == schema()


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Strict: a broken link or reference, or a page outside the navigation, fails. Nothing comes from the net."""
    if any(importlib.util.find_spec(module) is None for module in ("mkdocs", "material", "mkdocstrings")):
        pytest.skip("the extra `docs` is not installed (pip install -e '.[docs]')")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//""")
    for page in (tmp_path / "site").rglob("*.html"):
        found = loaded.search(page.read_text(encoding="utf-8"))
        assert found is None, f"{page.name} loads {found[0]} from the net"
