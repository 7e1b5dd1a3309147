"""nuScenes tables -> planning set. `senna-prune convert --help` lists the options."""

from __future__ import annotations

from collections.abc import Sequence

from senna_prune.cli import guarded


def main(arguments: Sequence[str] | None = None) -> int:
    return guarded(lambda: _convert(arguments), "no planning set was written; captions already given are kept")


def _convert(arguments: Sequence[str] | None) -> None:
    from senna_prune.nuscenes import command_line  # here: worker processes import the tool's file and need none of it

    command_line.main(arguments)
