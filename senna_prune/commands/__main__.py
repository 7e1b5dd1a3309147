"""`senna-prune COMMAND ...`: the tools as subcommands; `python -m senna_prune.commands` is the same."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from senna_prune import __version__
from senna_prune.cli import guarded
from senna_prune.errors import one_of

COMMANDS = {
    "demo": ("demo", "evaluate the bundled demo, with its report"),
    "eval": ("evaluate", "evaluate pruned planning on a planning set"),
    "doctor": ("doctor", "say what will work with a checkpoint on this machine, and what will not"),
    "convert": ("convert", "convert nuScenes tables to a planning set, or check one"),
    "calibrate": ("calibrate", "measure AutoPrune's complexity on unlabelled samples, write a profile"),
    "report": ("report", "write the report of a run: HTML, Markdown, CSV, LaTeX, plots"),
    "attention": ("attention", "measure where an unpruned model's attention lies, layer by layer"),
    "rerun": ("rerun_export", "export a run for the Rerun viewer"),
    "benchmark": ("benchmark", "time planning stage by stage"),
    "export-decoder": ("export_decoder", "write the decoder as a plain Llama folder for a serving engine"),
    "import": ("import_checkpoint", "convert a released Senna checkpoint to this project's format"),
}
"""Module of this package and summary, by subcommand. A module is imported only when its command runs."""


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        ["usage: senna-prune COMMAND ...", "", *lines, "", "senna-prune COMMAND --help lists its options."]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns its exit status, 2 for an unknown one."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] == "--version":
        print(f"senna-prune {__version__}")
        return 0
    name, *rest = words
    if name not in COMMANDS:
        return guarded(lambda: one_of(name, COMMANDS, "senna-prune", "command"))
    # argparse takes a command's name in its messages from here.
    sys.argv = [f"senna-prune {name}", *rest]
    tool = importlib.import_module(f"senna_prune.commands.{COMMANDS[name][0]}")
    return int(tool.main())


if __name__ == "__main__":
    raise SystemExit(main())
