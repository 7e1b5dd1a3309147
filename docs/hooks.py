"""What the documentation takes from the code when it is built.

`<!-- output: COMMAND -->` becomes what COMMAND prints, `<!-- every command -->` a section for each subcommand, and
`<!-- settings: MODULE.CLASS -->` a table of all settings with their defaults.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

MARK = re.compile(r"<!-- output: senna-prune (.+?) -->")
SETTINGS = re.compile(r"<!-- settings: (\S+)\.(\w+) -->")
ENTRY = re.compile(r"^ {8}(\w[\w, ]*): (.*(?:\n {12}.*)*)", re.MULTILINE)
"""Names and text of an entry of a docstring's `Attributes`."""
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


def settings(schema: type, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Key, default and meaning of every setting of a dataclass, those of its groups after its own."""
    defaults, groups = schema(), list[tuple[type, str]]()
    told = {name: text for names, text in ENTRY.findall(schema.__doc__ or "") for name in names.split(", ")}
    for one in fields(schema):
        default = getattr(defaults, one.name)
        if is_dataclass(default):
            groups.append((type(default), f"{prefix}{one.name}."))
        else:
            yield f"{prefix}{one.name}", default, " ".join(told[one.name].split())
    for group, name in groups:
        yield from settings(group, name)


def settings_table(module: str, name: str) -> str:
    """A Markdown table of the settings of one class; defaults as they are written in YAML."""
    rows = settings(getattr(importlib.import_module(module), name))
    shown = ((key, json.dumps(default).replace('"', ""), told) for key, default, told in rows)
    lines = [f"| `{key}` | `{default}` | {told} |" for key, default, told in shown]
    return "\n".join(["| Setting | Default | Meaning |", "|---|---|---|", *lines])


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for every page."""
    os.environ["COLUMNS"] = WIDTH
    markdown = markdown.replace(EVERY_COMMAND, every_command()) if EVERY_COMMAND in markdown else markdown
    markdown = SETTINGS.sub(lambda found: settings_table(found[1], found[2]), markdown)
    return MARK.sub(lambda found: f"```text\n{output(found[1])}\n```", markdown)
