"""Make the bundled demo: `world` (images, tables, planning set), `train` (the driver), or `all`.

`judge` says whether the driver in --out is a test bed for pruning.

    python tools/make_demo.py all --compile           # about an hour on two cores
    python tools/make_demo.py train --set num_scenes=2048 --work /elsewhere --out /somewhere/else

A run that was cut off goes on from its last checkpoint when the same command is given again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where `tools` is found when this file is run

from senna_prune.cli import guarded
from senna_prune.errors import ConfigError

MAX_THREADS = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("world", "train", "all", "judge"))
    parser.add_argument("--out", type=Path, default=Path("data/demo"), help="the bundle (default: data/demo)")
    parser.add_argument("--work", type=Path, default=Path("runs/demo"), help="images, checkpoints, log.jsonl")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of training and of rendering")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--compile", action="store_true", help="train a third faster; needs a C++ compiler")
    parser.add_argument("--set", action="append", default=[], metavar="key=value", help="a number of the recipe")
    options = parser.parse_args(arguments)
    if not 1 <= options.threads <= MAX_THREADS:
        parser.error(f"argument --threads: {options.threads} is not between 1 and {MAX_THREADS}")

    def make() -> None:
        try:
            import cv2  # noqa: F401
        except ModuleNotFoundError as error:
            hint = "run pip install -e '.[nuscenes]'"
            raise ConfigError("OpenCV is not installed", where="make_demo", hint=hint) from error
        # Imported here, so that Ctrl-C while torch loads is one line too.
        from tools.demo.make import make_demo

        make_demo(options)

    return guarded(make, "the same command goes on from the last checkpoint")


if __name__ == "__main__":
    raise SystemExit(main())
