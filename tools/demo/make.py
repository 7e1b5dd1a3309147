"""What `tools/make_demo.py` does once its options are read."""

from __future__ import annotations

import argparse

import torch

from senna_prune.devices import find_device
from senna_prune.files import check_output
from senna_prune.model.checkpoint import load_senna
from tools.demo.training.driver import RECORD, run_identity, save_driver, train_driver
from tools.demo.training.judge import judge
from tools.demo.training.loop import progress_bar
from tools.demo.training.memory import keep_freed_memory
from tools.demo.training.recipe import Recipe
from tools.demo.world.bundle import make_bundle_world

NUM_PROBED = 800


def make_demo(options: argparse.Namespace) -> None:
    """World, driver or both, or whether a driver is a test bed.

    Raises:
        SennaPruneError: a setting, a folder or a checkpoint is unusable.
    """
    recipe = Recipe.with_overrides(options.set)
    if options.what == "judge":
        model, processor = load_senna(options.out / "model", "float32", "cpu", "eager", None, False)
        for line in judge(model, processor, recipe.validation_scenes, NUM_PROBED):
            print(line)
        return
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
        save_driver(model, processor, options.out / "model", run_identity(recipe, "all"))
