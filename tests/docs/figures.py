"""Figures of the pages, from the runs that made them.

    python -m tests.docs.figures RUN
    python -m tests.docs.figures SOURCE NAME "COMMAND" COLUMN ...

The first copies the images of README and results from a reported run. The second writes docs/figures/NAME.json: a
table of a run folder, of a report's CSV file or of a benchmark's JSON file. It puts that table behind every
`<!-- table: NAME -->` of the pages, and a test compares both. A COLUMN may be renamed: "method at 25 %=method".
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from senna_prune.evaluation.report.plan_tables import every_row
from senna_prune.evaluation.report.table import Table, to_markdown
from tests.docs.pages import DOCS, PAGES

FIGURES = {
    "objects.png": "plots/objects.png",
    "kept_tokens.png": "kept_tokens.png",
    "accuracy_by_time.png": "plots/accuracy_by_time_corrected.png",
}
"""Where each lies in a run's folder, by its name in docs/assets."""
ASSETS = DOCS / "assets"
TABLES = DOCS / "figures"
WIDEST = 1300
MOST_BYTES = 300_000
MARKED = re.compile(r"(?<=<!-- table: )(?P<name>[\w-]+) -->\n\n(?P<table>(?:\|.*\n)*)")
"""Name of a marked table and its lines, which may be missing yet."""


def copy_figures(run: Path) -> None:
    """Copy the images, at most `WIDEST` pixels wide, in all their colours: a palette loses the small red lights."""
    for name, place in FIGURES.items():
        image = Image.open(run / place).convert("RGB")
        image.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
        image.save(ASSETS / name, optimize=True)


def rows_of(source: Path) -> list[dict[str, Any]]:
    """Rows of a run folder as its report has them, of a CSV file, or of a benchmark with dotted names."""
    if source.is_dir():
        results, timing = (json.loads((source / f"{name}.json").read_text()) for name in ("results", "timing"))
        return [dict(row) for group in results["groups"] for row in every_row(group, timing).rows]
    if source.suffix == ".csv":
        return pd.read_csv(source, dtype=str, keep_default_na=False).to_dict("records")
    rows = pd.json_normalize(json.loads(source.read_text())["rows"])
    return rows.map(lambda cell: f"{cell:,.1f}" if isinstance(cell, float) else cell).to_dict("records")


def write_table(source: Path, name: str, command: str, columns: Sequence[str], pages: Sequence[Path] = PAGES) -> None:
    """Write docs/figures/NAME.json and the pages that show it.

    Args:
        command: what made `source`.
        columns: of its rows, each as `NAME` or `SHOWN=NAME`.
    """
    heads = [column.partition("=")[::2] for column in columns]
    cells = [[str(row[own or shown]) for shown, own in heads] for row in rows_of(source)]
    record = {"command": command, "columns": [shown for shown, _ in heads], "rows": cells}
    TABLES.mkdir(exist_ok=True)
    (TABLES / f"{name}.json").write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for page in pages:
        text = page.read_text(encoding="utf-8")
        shown = MARKED.sub(lambda found: f"{found['name']} -->\n\n{written(found['name'])}", text)
        page.write_text(shown, encoding="utf-8")


def written(name: str) -> str:
    """The Markdown table of docs/figures/NAME.json."""
    record = json.loads((TABLES / f"{name}.json").read_text(encoding="utf-8"))
    rows = [dict(zip(record["columns"], cells, strict=True)) for cells in record["rows"]]
    return to_markdown(Table("", tuple(record["columns"]), rows)).strip() + "\n"


if __name__ == "__main__":
    source, *more = sys.argv[1:]
    if more:
        write_table(Path(source), *more[:2], more[2:])
    else:
        copy_figures(Path(source))
