"""What a run on the demo world did with the objects that decide a scene: whether AutoPrune's mutual information follows
their number, and how many tokens each method left to the cameras that see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from senna_prune.errors import RunError, brief
from senna_prune.files import read_lines
from tools.demo.world.bundle import WORLD_SEED
from tools.demo.world.rig import RIG
from tools.demo.world.scenes import make_scene, scene_rng

LEAST_SCENES = 3


def describe_decisive_objects(run: Path) -> Iterator[str]:
    """Lines for the terminal: mutual information by number of decisive objects, the rank correlation, and for each row
    the mean tokens that enter layers from cameras that see a decisive object and from the others.

    Decisive objects are those that the layout names as evidence of the plan; the scenes are drawn again from their
    numbers, so only runs on the bundled world can be read.

    Args:
        run: a run folder with planning samples decided by a method that measures complexity.

    Raises:
        RunError: the run is of another world, or holds no complexities.
    """
    found: dict[str, float] = {}
    evidence: dict[str, dict[str, str]] = {}
    kept: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for where, record in read_lines(run / "decisions.jsonl"):
        trace, scene = record.get("trace"), str(record.get("scene"))
        if not isinstance(trace, dict):
            continue
        if not scene.removeprefix("demo-").isdecimal():
            raise RunError(f"scene {brief(scene)} is none of the demo world", where=where)
        if scene not in evidence:
            evidence[scene] = dict(make_scene(scene_rng(WORLD_SEED, int(scene[5:]))).layout.evidence)
        if isinstance(complexity := trace.get("complexity"), float):
            found.setdefault(scene, complexity)
        deciding = np.array([camera.channel in evidence[scene].values() for camera in RIG])
        per_view = np.array(trace.get("per_view") or [])
        if per_view.ndim == 2 and per_view.shape[1] == len(RIG) and deciding.any() and not deciding.all():
            row = str(record.get("condition")).partition("#")[0]
            kept.setdefault(row, []).append((per_view[:, deciding].mean(1), per_view[:, ~deciding].mean(1)))
    if len(found) < LEAST_SCENES:
        raise RunError(f"fewer than {LEAST_SCENES} scenes have a complexity", where=run, hint="run autoprune on it")
    counts = np.array([len(evidence[name]) for name in found])
    values = np.array(list(found.values()))
    for count in np.unique(counts):
        these = values[counts == count]
        low, middle, high = np.quantile(these, (0.25, 0.5, 0.75))
        yield f"{count} decisive objects: {len(these)} scenes, mutual information {low:.3f} / {middle:.3f} / {high:.3f}"
    correlation = spearmanr(counts, values)
    yield f"Spearman's rank correlation: {correlation.statistic:.2f} (p = {correlation.pvalue:.2g})"
    for row, pairs in kept.items():
        means = np.mean(pairs, axis=0)
        layers = sorted({0, *(means.shape[1] * part // 4 for part in (1, 2, 3)), means.shape[1] - 1})
        shown = ", ".join(f"layer {layer} {means[0, layer]:.1f} / {means[1, layer]:.1f}" for layer in layers)
        yield f"{row}, tokens of a decisive / another camera: {shown}"
