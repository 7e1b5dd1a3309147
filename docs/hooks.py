"""What the documentation takes from the code when it is built.

`<!-- output: COMMAND -->` becomes what COMMAND prints, `<!-- every command -->` a section for each subcommand.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
from typing import Any

MARK = re.compile(r"<!-- output: senna-prune (.+?) -->")
EVERY_COMMAND = "<!-- every command -->"
WIDTH = "84"  # fits between the two side bars


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


def every_command() -> str:
    """A heading, the summary and a mark for the help of every subcommand."""
    from senna_prune.commands.__main__ import COMMANDS

    sections = (
        f"## senna-prune {name}\n\n{summary[0].upper()}{summary[1:]}.\n\n<!-- output: senna-prune {name} --help -->\n"
        for name, (_, summary) in COMMANDS.items()
    )
    return "\n".join(sections)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for every page."""
    os.environ["COLUMNS"] = WIDTH
    markdown = markdown.replace(EVERY_COMMAND, every_command()) if EVERY_COMMAND in markdown else markdown
    return MARK.sub(lambda found: f"```text\n{output(found[1])}\n```", markdown)
