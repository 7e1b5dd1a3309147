"""Mutual information against the number of decisive objects of a demo scene."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.demo.world.bundle import WORLD_SEED
from tools.demo.world.rig import RIG
from tools.demo.world.scenes import make_scene, scene_rng
from tools.make_demo import main


def write_run(folder: Path, complexities: dict[str, float]) -> None:
    lines = [{"scene": name, "trace": {"complexity": value}} for name, value in complexities.items()]
    lines.append({"scene": "demo-0000", "trace": {"complexity": None}})
    (folder / "decisions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_a_measure_that_counts_objects_correlates_fully(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {n: len(make_scene(scene_rng(WORLD_SEED, n)).layout.evidence) for n in range(12)}
    assert len(set(counts.values())) > 1
    write_run(tmp_path, {f"demo-{number:04d}": 0.1 * count for number, count in counts.items()})
    assert main(["complexity", "--run", str(tmp_path)]) == 0
    *groups, last = capsys.readouterr().out.splitlines()
    assert last.startswith("Spearman's rank correlation: 1.00 (p = ")
    count = min(counts.values())
    scenes = list(counts.values()).count(count)
    middle = f"{0.1 * count:.3f}"
    assert groups[0] == f"{count} decisive objects: {scenes} scenes, mutual information {middle} / {middle} / {middle}"


def test_tokens_of_deciding_cameras_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    for number in range(6):
        deciding = set(make_scene(scene_rng(WORLD_SEED, number)).layout.evidence.values())
        last = [8 if camera.channel in deciding else 2 for camera in RIG]
        trace = {"complexity": float(number), "per_view": [[16] * 6, [16] * 6, last, last]}
        lines += [
            {"scene": f"demo-{number:04d}", "condition": f"random@0.25#{seed}", "trace": trace} for seed in (0, 1)
        ]
    (tmp_path / "decisions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert main(["complexity", "--run", str(tmp_path)]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("random@0.25,")]
    assert row.endswith("layer 0 16.0 / 16.0, layer 1 16.0 / 16.0, layer 2 8.0 / 2.0, layer 3 8.0 / 2.0")


@pytest.mark.parametrize(
    ("complexities", "problem"),
    [
        ({"scene-0061": 0.5}, "scene 'scene-0061' is none of the demo world"),
        ({"demo-0000": 0.5}, "fewer than 3 scenes have a complexity"),
    ],
)
def test_other_runs_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], complexities: dict[str, float], problem: str
) -> None:
    write_run(tmp_path, complexities)
    assert main(["complexity", "--run", str(tmp_path)]) == 2
    assert problem in capsys.readouterr().err
