"""Convert a released Senna checkpoint to this project's format: `senna-prune import SRC DST`."""

from __future__ import annotations

import argparse

from senna_prune.cli import guarded


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="folder of the released checkpoint, or its hub id where there is network")
    parser.add_argument("destination", help="folder to write; must not exist")
    parser.add_argument("--vision-tower", help="folder of the CLIP tower, where the checkpoint does not hold it")
    options = parser.parse_args(arguments)
    return guarded(lambda: _import(options), interrupted="nothing was imported; run the same command again")


def _import(options: argparse.Namespace) -> None:
    from senna_prune.model.importing import import_checkpoint  # here, so that Ctrl-C while torch loads is one line too

    digest = import_checkpoint(options.source, options.destination, options.vision_tower)
    print(f"{options.destination}: digest {digest}")
