"""What a run did with the objects that decide a demo scene."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from senna_prune.errors import RunError
from tools.demo.world.bundle import WORLD_SEED
from tools.demo.world.decisive import describe_decisive_objects
from tools.demo.world.rig import RIG
from tools.demo.world.scenes import make_scene, scene_rng

EVIDENCE = {number: make_scene(scene_rng(WORLD_SEED, number)).layout.evidence for number in range(12)}


def described(folder: Path, lines: list[dict[str, object]]) -> list[str]:
    (folder / "decisions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return list(describe_decisive_objects(folder))


def test_a_measure_that_counts_objects_correlates_fully(tmp_path: Path) -> None:
    counts = {number: len(objects) for number, objects in EVIDENCE.items()}
    assert len(set(counts.values())) > 1
    lines = [{"scene": f"demo-{number:04d}", "trace": {"complexity": 0.1 * count}} for number, count in counts.items()]
    *groups, last = described(tmp_path, [*lines, {"scene": "demo-0000", "trace": {"complexity": None}}])
    assert last.startswith("Spearman's rank correlation: 1.00 (p = ")
    count = min(counts.values())
    scenes, middle = list(counts.values()).count(count), f"{0.1 * count:.3f}"
    assert groups[0] == f"{count} decisive objects: {scenes} scenes, mutual information {middle} / {middle} / {middle}"


def test_tokens_of_deciding_cameras_are_told_apart(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = []
    for number, objects in EVIDENCE.items():
        last = [8 if camera.channel in objects.values() else 2 for camera in RIG]
        trace = {"complexity": float(number), "per_view": [[16] * 6, [16] * 6, last, last]}
        lines.append({"scene": f"demo-{number:04d}", "condition": "random@0.25#0", "trace": trace})
    (row,) = [line for line in described(tmp_path, lines) if line.startswith("random@0.25,")]
    assert row.endswith("layer 0 16.0 / 16.0, layer 1 16.0 / 16.0, layer 2 8.0 / 2.0, layer 3 8.0 / 2.0")


@pytest.mark.parametrize(
    ("scene", "problem"),
    [("scene-0061", "none of the demo world"), ("demo-0000", "fewer than 3 scenes have a complexity")],
)
def test_other_runs_are_refused(tmp_path: Path, scene: str, problem: str) -> None:
    with pytest.raises(RunError, match=problem):
        described(tmp_path, [{"scene": scene, "trace": {"complexity": 0.5}}])
