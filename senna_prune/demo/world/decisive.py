"""How the mutual information that AutoPrune measured follows the number of objects that decide a demo scene."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from senna_prune.demo.world.bundle import WORLD_SEED
from senna_prune.demo.world.scenes import make_scene, scene_rng
from senna_prune.errors import RunError
from senna_prune.journal import read_lines

LEAST_SCENES = 3


def describe_decisive_objects(run: Path) -> Iterator[str]:
    """Lines for the terminal: mutual information by number of decisive objects, and the rank correlation.

    Decisive objects are those that the layout names as evidence of the plan; the scenes are drawn again from their
    numbers, so only runs on the bundled world can be read.

    Args:
        run: a run folder with planning samples decided by a method that measures complexity.

    Raises:
        RunError: the run is of another world, or holds no complexities.
    """
    found: dict[str, float] = {}
    for where, record in read_lines(run / "decisions.jsonl"):
        trace, scene = record.get("trace"), str(record.get("scene"))
        if isinstance(trace, dict) and isinstance(complexity := trace.get("complexity"), float):
            if not scene.removeprefix("demo-").isdecimal():
                raise RunError(f"scene {scene[:40]!r} is none of the demo world", where=where)
            found.setdefault(scene, complexity)
    if len(found) < LEAST_SCENES:
        raise RunError(f"fewer than {LEAST_SCENES} scenes have a complexity", where=run, hint="run autoprune on it")
    counts = np.array([len(make_scene(scene_rng(WORLD_SEED, int(name[5:]))).layout.evidence) for name in found])
    values = np.array(list(found.values()))
    for count in np.unique(counts):
        these = values[counts == count]
        low, middle, high = np.quantile(these, (0.25, 0.5, 0.75))
        yield f"{count} decisive objects: {len(these)} scenes, mutual information {low:.3f} / {middle:.3f} / {high:.3f}"
    correlation = spearmanr(counts, values)
    yield f"Spearman's rank correlation: {correlation.statistic:.2f} (p = {correlation.pvalue:.2g})"
