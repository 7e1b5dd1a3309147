"""What the documentation takes from the code when it is built: `<!-- output: COMMAND -->` becomes its output."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
from typing import Any

MARK = re.compile(r"<!-- output: senna-prune (.+?) -->")
WIDTH = "100"


def output(command: str) -> str:
    """What `senna-prune COMMAND` prints.

    Raises:
        RuntimeError: the command fails, which fails the build.
    """
    from senna_prune.commands.__main__ import main

    printed, status = io.StringIO(), 0
    arguments, sys.argv = sys.argv, ["senna-prune"]
    try:
        with contextlib.redirect_stdout(printed):
            status = main(shlex.split(command))
    except SystemExit as stopped:  # argparse ends so after --help
        status = int(stopped.code or 0)
    finally:
        sys.argv = arguments
    if status:
        raise RuntimeError(f"senna-prune {command} ended with status {status}")
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines())


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for every page."""
    os.environ["COLUMNS"] = WIDTH
    return MARK.sub(lambda found: f"```text\n{output(found[1])}\n```", markdown)
