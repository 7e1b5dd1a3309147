"""The world of the bundle and its planning set, made by the converter: plans, road users, motions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from senna_prune.nuscenes.conversion import ConversionSettings, convert
from tools.demo.world.writing import SPLIT, VERSION, write_world

NUM_SCENES = 408
WORLD_SEED = 1
"""Training scenes have other seeds: the bundle is held out."""


def make_bundle_world(
    folder: Path, report: Callable[[int, int], None] = lambda done, total: None, num_scenes: int = NUM_SCENES
) -> int:
    """Write tables, images and `planning_set.jsonl` under `folder`. Returns the number of planning samples."""
    write_world(folder, num_scenes, WORLD_SEED, report)
    settings = ConversionSettings(
        dataroot=folder,
        version=VERSION,
        out=folder / "planning_set.jsonl",
        split=SPLIT,
        kinds=("plan", "vru", "motion"),
        require_images=True,
        objects=True,
    )
    return convert(settings).samples["plan"]
