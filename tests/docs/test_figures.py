"""Tables of the pages are those of the files in docs/figures, which a command writes from a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docs import figures
from tests.docs.pages import PAGES


def test_each_marked_table_is_its_file() -> None:
    marked = [(page, found) for page in PAGES for found in figures.MARKED.finditer(page.read_text(encoding="utf-8"))]
    for page, found in marked:
        assert found["table"] == figures.written(found["name"]), f"{page.name}: {found['name']} is not its file"
    assert {path.stem for path in figures.TABLES.glob("*.json")} == {found["name"] for _, found in marked}


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_table_is_written_from_its_source(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, page = tmp_path / f"source.{kind}", tmp_path / "page.md"
    source.write_text(
        "row,ms,other\nnone,1.5,x\n" if kind == "csv" else json.dumps({"rows": [{"row": "none", "ms": 1.54}]})
    )
    page.write_text("Text.\n\n<!-- table: fast -->\n\n| old |\n|---|\n| 9 |\n\nMore.\n")
    monkeypatch.setattr(figures, "TABLES", tmp_path / "figures")
    for _ in range(2):
        figures.write_table(source, "fast", "make demo", ["method=row", "ms"], [page])
        assert (
            page.read_text()
            == "Text.\n\n<!-- table: fast -->\n\n| method | ms |\n|---|---:|\n| none | 1.5 |\n\nMore.\n"
        )
    assert json.loads((tmp_path / "figures" / "fast.json").read_text())["command"] == "make demo"
