"""The world of the bundle and its planning set, made by the converter: plans, road users, motions, objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from senna_prune.nuscenes.conversion import ConversionSettings, convert
from senna_prune.task.objects import SeenObject
from senna_prune.task.sample import PlanningSample, iter_samples, write_samples
from tools.demo.world.rendering import render
from tools.demo.world.rig import RIG
from tools.demo.world.scenes import make_scene, scene_rng
from tools.demo.world.writing import SPLIT, VERSION, write_world

NUM_SCENES = 408
WORLD_SEED = 1
"""Training scenes have other seeds: the bundle is held out."""
_UNBOXED = {"light": "traffic light", "left.street": "side street", "right.street": "side street"}
"""What may decide although nuScenes boxes no such thing, by name of its group."""


def make_bundle_world(
    folder: Path, report: Callable[[int, int], None] = lambda done, total: None, num_scenes: int = NUM_SCENES
) -> int:
    """Write tables, images and `planning_set.jsonl` under `folder`. Returns the number of planning samples."""
    write_world(folder, num_scenes, WORLD_SEED, report)
    return write_planning_set(folder, folder / "planning_set.jsonl")


def write_planning_set(folder: Path, out: Path) -> int:
    """Convert the world in `folder`, and add what nuScenes does not box. Returns the number of planning samples."""
    kinds = ("plan", "vru", "motion")
    settings = ConversionSettings(folder, VERSION, out, split=SPLIT, kinds=kinds, require_images=True, objects=True)
    planned = convert(settings).samples["plan"]
    write_samples(out, map(_with_unboxed, list(iter_samples(out))))
    return planned


def _with_unboxed(sample: PlanningSample) -> PlanningSample:
    return replace(sample, objects=(*(sample.objects or ()), *_unboxed(int(sample.scene.removeprefix("demo-")))))


@cache
def _unboxed(number: int) -> tuple[SeenObject, ...]:
    """Lights and side streets of one scene, with the outlines of their pixels."""
    layout = make_scene(scene_rng(WORLD_SEED, number)).layout
    drawn = render(layout.mesh, layout.light)[1]
    found = []
    for group, channel in layout.evidence.items():
        if group in _UNBOXED:
            of_group = layout.mesh.names.index(group)
            corners = np.array(layout.mesh.quads)[np.array(layout.mesh.groups) == of_group].reshape(-1, 3)
            shown = drawn[[camera.channel for camera in RIG].index(channel)] == of_group
            rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
            box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
            distance = round(float(np.hypot(corners[:, 0], corners[:, 1]).min()), 2)
            found.append(SeenObject(_UNBOXED[group], {channel: box}, distance))
    return tuple(found)
