"""The tutorial's notebook is what its page says, and runs."""

from __future__ import annotations

import json

import pytest

from tests.conftest import ROOT
from tests.docs.notebook import NOTEBOOK, notebook


def test_the_notebook_is_what_the_page_says() -> None:
    assert NOTEBOOK.read_text(encoding="utf-8") == notebook(), "run python -m tests.docs.notebook"
    kinds = [cell["cell_type"] for cell in json.loads(notebook())["cells"]]
    assert kinds.count("code") >= 5 and kinds[0] == "markdown"


@pytest.mark.slow
def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="the extra `docs` is not installed (pip install -e '.[docs]')")
    pytest.importorskip("ipykernel", reason="the extra `docs` is not installed (pip install -e '.[docs]')")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(made)
    nbclient.NotebookClient(made, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    printed = [output["text"] for cell in made.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("visual tokens per layer" in text for text in printed)
