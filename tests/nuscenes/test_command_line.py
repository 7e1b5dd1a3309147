from __future__ import annotations

import sys
from pathlib import Path

import pytest

from senna_prune.errors import ConfigError
from senna_prune.nuscenes.command_line import main, parse_convention
from senna_prune.nuscenes.conversion import ConversionSettings
from senna_prune.task.labels import Convention
from senna_prune.task.sample import read_samples
from tests.nuscenes.tiny_tables import VERSION, arc, straight, write_tables
from tools import convert_nuscenes


@pytest.fixture
def world(tmp_path: Path) -> Path:
    objects = {"scene-0103": [("vehicle.car", [(20.0, 0.0, 0.0)] * 9)]}
    scenes = {"scene-0103": straight(9, 5.0), "scene-0916": arc(16, 6.0, -20.0)}
    return write_tables(tmp_path / "data", scenes, objects)


def test_what_was_written_and_left_out_is_said(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set.jsonl"
    main(["--dataroot", str(world), "--version", VERSION, "--split", "val", "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("13 plan samples from 25 keyframes of 2 scenes")
    assert lines[1] == "  plan: 12 keyframes left out: the scene ends within 3 s"
    assert lines[2] == (
        "  speed from the displacement around the keyframe, which looks 0.5 s into the future, in 2 of 2 scenes"
    )
    assert lines[3].startswith("  148 scenes of the split are not in the tables: scene-0003, ")
    assert len(read_samples(out)) == 13


def test_ctrl_c_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(settings: ConversionSettings, *_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("senna_prune.nuscenes.command_line.convert", interrupted)
    options = ["--dataroot", "any", "--version", VERSION, "--out", str(tmp_path / "set.jsonl")]
    monkeypatch.setattr(sys, "argv", ["convert_nuscenes", *options])
    assert convert_nuscenes.main() == 130
    assert capsys.readouterr().err == "\ninterrupted; no planning set was written; captions already given are kept\n"


def test_summary(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set.jsonl"
    options = ["--dataroot", str(world), "--version", VERSION, "--out", str(out), "--summary"]
    assert main([*options, "--kinds", "plan,motion"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[next(n for n, line in enumerate(lines) if "navigation command by answered path" in line) :]
    row = next(line for line in table if "turn right" in line and "straight" not in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["turn right", "", "", "", "9", "", "9"]
    assert any("objects by speed and path" in line for line in lines)
    picture = tmp_path / "set.jsonl.summary.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_conventions_one_by_one() -> None:
    assert parse_convention("upstream") == Convention("upstream", "upstream")
    assert parse_convention("command=corrected,cameras=upstream") == Convention("upstream", "corrected")
    with pytest.raises(ConfigError, match="not a convention: 'cameras=upstream'"):
        parse_convention("cameras=upstream")


def test_tables_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--version is missing"):
        main(["--dataroot", str(tmp_path), "--out", str(tmp_path / "set.jsonl")])
