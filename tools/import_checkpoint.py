"""Convert a released Senna checkpoint to this project's format: `python tools/import_checkpoint.py SRC DST`."""

from __future__ import annotations

import argparse
import sys

from senna_prune.errors import SennaPruneError
from senna_prune.model.importing import import_checkpoint


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="folder of the released checkpoint, or its hub id where there is network")
    parser.add_argument("destination", help="folder to write; must not exist")
    parser.add_argument("--vision-tower", help="folder of the CLIP tower, where the checkpoint does not hold it")
    options = parser.parse_args(arguments)
    try:
        digest = import_checkpoint(options.source, options.destination, options.vision_tower)
    except SennaPruneError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.destination}: digest {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
