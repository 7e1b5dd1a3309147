"""Make the bundled demo: `world` (pictures, tables, planning set), `train` (the driver), or `all`.

`complexity` says how the mutual information of a run on it follows the number of objects that decide a scene.

    senna-prune make-demo all                     # with --compile under two hours on two cores
    senna-prune make-demo train --set num_scenes=2048 --work /elsewhere --out /somewhere/else
    senna-prune make-demo complexity --run runs/demo-0123abcd

A run that was cut off goes on from its last checkpoint when the same command is given again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from senna_prune.cli import guarded

MAX_THREADS = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("world", "train", "all", "complexity"))
    parser.add_argument("--run", type=Path, metavar="DIR", help="a finished run on the bundle, for `complexity`")
    parser.add_argument("--out", type=Path, default=Path("data/demo"), help="the bundle (default: data/demo)")
    parser.add_argument("--work", type=Path, default=Path("runs/demo"), help="pictures, checkpoints, log.jsonl")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of training and of rendering")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--compile", action="store_true", help="train a third faster; needs a C++ compiler")
    parser.add_argument("--set", action="append", default=[], metavar="key=value", help="a number of the recipe")
    options = parser.parse_args(arguments)
    if not 1 <= options.threads <= MAX_THREADS:
        parser.error(f"argument --threads: {options.threads} is not between 1 and {MAX_THREADS}")

    if (options.what == "complexity") != (options.run is not None):
        parser.error("`complexity` needs --run, the others take none")

    def make() -> None:
        # Imported here, so that Ctrl-C while torch loads is one line too.
        if options.what == "complexity":
            from senna_prune.demo.world.decisive import describe_decisive_objects

            return print("\n".join(describe_decisive_objects(options.run)))
        import torch

        from senna_prune.demo.training.driver import RECORD, run_identity, save_driver, train_driver
        from senna_prune.demo.training.loop import progress_bar
        from senna_prune.demo.training.memory import keep_freed_memory
        from senna_prune.demo.training.recipe import Recipe
        from senna_prune.demo.world.bundle import make_bundle_world
        from senna_prune.devices import find_device
        from senna_prune.files import check_output

        recipe = Recipe.with_overrides(options.set)
        device = find_device(options.device, "--device")
        if options.what in ("world", "all"):
            with progress_bar() as progress:
                task = progress.add_task("world", total=None, note="")
                make_bundle_world(options.out, lambda done, all_: progress.update(task, completed=done, total=all_))
        if options.what in ("train", "all"):
            check_output(options.out / "model" / RECORD)
            keep_freed_memory()
            torch.set_num_threads(1)
            model, processor = train_driver(recipe, options.work, options.threads, str(device), options.compile)
            save_driver(model, processor, options.out / "model", run_identity(recipe))

    return guarded(make, "the same command goes on from the last checkpoint")
