"""Evaluate the bundled demo and write its report: `senna-prune eval --report`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from senna_prune.commands import evaluate


def main(arguments: Sequence[str] | None = None) -> int:
    return evaluate.main(["--report", *(sys.argv[1:] if arguments is None else arguments)])
