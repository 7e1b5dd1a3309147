"""A run that grows or changes computes only what is new, loses nothing, and ends as a fresh run would."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from senna_prune.errors import RunError
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.run import reading, run_folder
from senna_prune.evaluation.run.planning_set import spread
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.image_files import read_image
from senna_prune.pruning import registry
from senna_prune.task.sample import PlanningSample
from tests.evaluation.dummy import DummySystem, cut_off
from tests.evaluation.dummy_runs import run, settings
from tests.evaluation.kill_and_resume import result_files

TABLES = ("results.json", "decisions.jsonl", "planning_set.jsonl")
FEW = ("pruning.methods=[autoprune,random]", "pruning.seeds=[0]", "limit=6", "scoring.resamples=5")
"""Six samples of twelve under none, autoprune and random: 18 decisions."""


def tables(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in TABLES}


STEPS: list[tuple[list[str], int]] = [
    (["pruning.methods=[autoprune,fastervlm,random]"], 6),
    (["pruning.retentions=[0.5,0.25]"], 12),
    (["pruning.seeds=[0,1]", "limit=9"], 3 * 3 + 9),
    (["limit=3"], 0),
    (["limit=null"], 3 * 3),
    (["pruning.methods=[random,blind]", "limit=8"], 8),
    (["pruning.methods=[blind]", "pruning.controls=false"], 0),
    (["pruning.options.autoprune.variant=paper"], 6),
    ([], 0),
]
"""What is changed for the next try, and how many decisions of it nobody made before."""


def test_a_changed_sweep_ends_as_a_fresh_one(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "run", *FEW)
    for number, (more, made) in enumerate(STEPS):
        run(data, tmp_path / f"fresh-{number}", *FEW, *more)
        assert len(run(data, tmp_path / "run", *FEW, *more).decided) == made, more
        assert tables(tmp_path / "run") == tables(tmp_path / f"fresh-{number}"), more


def test_a_changed_run_that_is_cut_off_goes_on(data: Path, tmp_path: Path) -> None:
    more = [*FEW, "limit=9", "pruning.methods=[fastervlm,random]"]
    run(data, tmp_path / "fresh", *more)
    run(data, tmp_path / "run", *FEW)
    with cut_off(4), pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "run", *more)
    assert not (tmp_path / "run" / "results.json").exists()
    assert len(RunFolder(tmp_path / "run").read_lines()) == 12 + 3
    assert len(run(data, tmp_path / "run", *more).decided) == 27 - 15
    assert tables(tmp_path / "run") == tables(tmp_path / "fresh")
    assert len(RunFolder(tmp_path / "run").read().spare) == 6, "those of autoprune"


@pytest.mark.parametrize("stage", ["spare.jsonl", "timing.jsonl", "decisions.jsonl"])
def test_a_crash_while_finished_files_are_written_loses_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """There and back again: lines of the first sweep come from the spare ones, and no journal of a process has them."""
    folder, back = tmp_path / "run", [*FEW, "pruning.options.autoprune.variant=released"]
    run(data, folder, *FEW)
    before = tables(folder)
    run(data, folder, *FEW, "pruning.options.autoprune.variant=paper")
    write = run_folder.write_whole

    def full(path: Path, *rest: Any) -> int:
        if path.name == stage:
            raise KeyboardInterrupt
        return write(path, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "write_whole", full)
        with pytest.raises(KeyboardInterrupt):
            run(data, folder, *back)
    assert len(run(data, folder, *back).decided) == 0
    assert tables(folder)["decisions.jsonl"] == before["decisions.jsonl"]
    assert len(RunFolder(folder).read().spare) == 6


def test_sources_of_a_method_drop_its_lines_alone(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(data, tmp_path / "run", *FEW)
    code = registry.method_code
    monkeypatch.setattr(registry, "method_code", lambda name: code(name) + ("changed" if name == "random" else ""))
    system = run(data, tmp_path / "run", *FEW)
    assert {condition for _, condition in system.decided} == {"random@0.25#0"}
    assert len(system.decided) == 6


def test_a_method_s_code_is_its_own_and_its_parents() -> None:
    codes = {name: registry.method_code(name) for name in ("none", "blind", "uniform", "oracle", "fastv")}
    assert len({*codes.values()}) == 5


def test_batches_grow_by_conditions_alone(data: Path, tmp_path: Path) -> None:
    """Who is in a batch depends on all samples, and with it the last digits."""
    run(data, tmp_path / "run", *FEW, "batch_size=4")
    system = run(data, tmp_path / "run", *FEW, "batch_size=4", "pruning.methods=[autoprune,random,blind]")
    assert {condition for _, condition in system.decided} == {"blind"}
    with pytest.raises(RunError, match="limit was 6, is 9"):
        run(data, tmp_path / "run", *FEW, "batch_size=4", "limit=9")


def test_a_dry_run_tells_what_is_there_by_condition(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(data, tmp_path / "run", *FEW)
    before = result_files(tmp_path / "run")
    config = settings(data, tmp_path / "run", *FEW, "limit=8", "pruning.methods=[random,blind]")
    capsys.readouterr()
    evaluate(config, DummySystem(config), dry_run=True)
    said = capsys.readouterr().out
    assert "to do: 12 decisions (12 done before)" in said
    for line in ("none: 6 there, 2 to make", "random@0.25#0: 6 there, 2 to make", "blind: 0 there, 8 to make"):
        assert f"  {line}\n" in said
    assert result_files(tmp_path / "run") == before


def test_a_line_without_its_maker_is_made_anew(data: Path, tmp_path: Path) -> None:
    """Reports still show it."""
    run(data, tmp_path / "run", *FEW)
    (tmp_path / "run" / "timing.jsonl").unlink()
    assert len(RunFolder(tmp_path / "run").read_lines()) == 18
    assert len(run(data, tmp_path / "run", *FEW).decided) == 18


def test_a_folder_of_an_older_version_is_refused_in_one_line(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "run", *FEW)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    info["key"] = {**info["key"], "code": "0.9+abc", "pruning.methods": ["none"], "limit": 6}
    del info["key"]["conditions"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(info))
    assert len(RunFolder(tmp_path / "run").read_lines()) == 18
    with pytest.raises(RunError, match=r'code was "0\.9\+abc", is "one version"'):
        run(data, tmp_path / "run", *FEW)


def test_unchanged_images_are_not_read_again(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cut_off(30), pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    read: list[Path] = []

    def counted(path: Path) -> bytes:
        read.append(path)
        return read_image(path)

    monkeypatch.setattr(reading, "read_image", counted)
    system = run(data, tmp_path / "run")
    assert len(read) == 6 * len(system.encoded) == 6 * 7
    read.clear()
    run(data, tmp_path / "run")
    assert read == []
    touched = data / "images" / "token0000_CAM_BACK.jpg"
    touched.touch()
    run(data, tmp_path / "run")
    assert read == [touched]
    run(data, tmp_path / "run")
    assert read == [touched]
    touched.write_bytes(b"another")
    with pytest.raises(RunError, match="has changed since"):
        run(data, tmp_path / "run")


SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=40)


@trying(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 60), st.integers(0, 60))
def test_a_limit_takes_whole_scenes_spread_over_the_set(sizes: list[int], limit: int, more: int) -> None:
    samples = [
        PlanningSample(f"{scene}-{number}", f"scene-{scene}", number, kind, {}, "?", "!")
        for scene, size in enumerate(sizes)
        for number in range(size)
        for kind in ("plan", "vru")
    ]
    taken = spread(samples, limit)
    assert taken == [sample for sample in samples if sample in taken], "in the order of the set"
    assert {s.key for s in taken} <= {s.key for s in spread(samples, limit + more)}
    plans = [sample for sample in taken if sample.kind == "plan"]
    assert len(plans) == min(limit, sum(sizes)) == len(taken) - len(plans)
    counts = [sum(s.scene == f"scene-{scene}" for s in plans) for scene in range(len(sizes))]
    assert sum(0 < count < size for count, size in zip(counts, sizes, strict=True)) <= 1, "one scene may be cut"
    begun = [scene for scene, count in enumerate(counts) if count]
    gaps = [b - a for a, b in zip([-1, *begun], [*begun, len(sizes)], strict=True)]
    assert max(gaps) <= 2 * len(sizes) / len(begun) + 1
