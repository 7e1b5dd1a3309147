"""Report a run of `senna-prune eval`, scored anew from its lines: report.html, report.md, results.csv and plots."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from senna_prune.cli import guarded


def main(arguments: Sequence[str] | None = None) -> int:
    return guarded(lambda: _report(arguments), interrupted="the report is unfinished")


def _report(arguments: Sequence[str] | None) -> None:
    # Imported here, so that Ctrl-C while they load is one line too.
    from rich.console import Console

    from senna_prune.config import PROTOCOLS
    from senna_prune.evaluation.report.show import camera_table
    from senna_prune.evaluation.report.table import printable, to_terminal
    from senna_prune.evaluation.report.write import write_report

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", metavar="run", type=Path, help="run folder, finished or not")
    parser.add_argument("--out", type=Path, help="folder of the report (default: the run folder)")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="score by this protocol instead of the run's")
    parser.add_argument("--samples", type=int, default=40, help="samples with images in the page (default: 40)")
    parser.add_argument(
        "--image-root",
        type=Path,
        help="folder of the images (default: the run's; of that, only what lies below the current folder is shown)",
    )
    parser.add_argument("--intervals", action="store_true", help="95 %% intervals in results.tex too")
    parser.add_argument("--against", metavar="ROW", help="also compare every row with this one, e.g. pyramiddrop@0.25")
    parser.add_argument("--baseline", metavar="RUN", type=Path, help="compare with another run of the same questions")
    parser.add_argument("--cameras", action="store_true", help="print visual tokens per camera and write nothing")
    options = parser.parse_args(arguments)
    if vars(options).pop("cameras"):
        return Console(width=None if sys.stdout.isatty() else 160).print(to_terminal(camera_table(options.path)))
    print(printable(str(write_report(**vars(options)))))
