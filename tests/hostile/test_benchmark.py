"""Hostile settings, outputs and profiles for tools/benchmark.py: one line and exit 2, before anything is timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from senna_prune.benchmark import run
from senna_prune.benchmark.profile import (
    asked_milliseconds,
    describe_host,
    describe_machine,
    read_profile,
    write_profile,
)
from senna_prune.benchmark.settings import BenchmarkConfig
from senna_prune.config import load_config
from senna_prune.errors import ConfigError
from tests.conftest import ROOT
from tests.hostile import fifo, refused
from tools.benchmark import main


@pytest.fixture(autouse=True)
def _nothing_is_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A refusal comes before the hardware is measured; results would lie in `tmp_path`."""

    def timed(*_: Any) -> Any:
        raise AssertionError("refused too late")

    monkeypatch.setattr(run, "measure_hardware", timed)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("setting", "where"),
    [
        ("dtype=auto", "dtype"),
        ("name=../../x", "name"),
        ("name=", "name"),
        (f"name={'n' * 300}", "cannot be written"),
        ("retentions=[0.25,0.25]", "retentions"),
        ("retentions=[.nan]", "retentions"),
        ("methods=[autoprune,autoprune]", "methods"),
        ("milliseconds=[-1]", "milliseconds"),
        ("milliseconds=[.inf]", "milliseconds"),
        ("milliseconds=[5]", "no profile yet"),
        ("compare=[flash_attention_2]", "compare"),
        ("threads=0", "threads"),
        ("threads=100000000", "threads"),
        ("images=[0,0]", "images"),
        ("images=[1000000000,1000000000]", "images"),
        ("images=[900]", "images"),
        ("host.layers=0", "host.layers"),
        ("host.patch=0", "host.patch"),
        ("host.heads=3", "host.hidden"),
        ("host.vocabulary=1", "host.vocabulary"),
        ("host.text_tokens=5", "host.text_tokens"),
        ("host.text_tokens=1000000000", "host.text_tokens"),
        ("host.view_tokens=100000", "host.view_tokens"),
        ("host.image_size=7", "host.image_size"),
        ("output=/dev/null", "cannot be written"),
        ("output=/proc/nowhere", "cannot be written"),
    ],
)
def test_settings(
    setting: str, where: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(capsys, monkeypatch, main, [setting], where)


def test_weights_that_no_memory_holds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "measure_hardware", lambda *_: run.Hardware(1e9, 1e9))
    refused(capsys, monkeypatch, main, ["host.layers=1000000000"], "memory")


@pytest.mark.parametrize("ending", [".json", ".txt", ".png", "_profile.json"])
def test_an_output_that_cannot_be_written_is_found_first(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo(tmp_path / f"t{ending}")
    refused(capsys, monkeypatch, main, [f"output={tmp_path}", "name=t"], f"t{ending}", "cannot be written")


@pytest.mark.parametrize(
    "record",
    [
        [],
        5,
        {},
        {"schema": 1, "prefill_milliseconds": {"autoprune": [[0.2, 1.0], [0.4, 2.0]]}},  # without machine and model
        {"schema": 2},
        {"schema": 2, "prefill_milliseconds": {"autoprune": [[0.2, 1.0], [0.4, 2.0]]}},
        {"schema": 2, "machine": [], "host": {}, "prefill_milliseconds": {}},
        {"prefill_milliseconds": []},
        {"prefill_milliseconds": {"autoprune": None}},
        {"prefill_milliseconds": {"autoprune": [[0.2, "x"], [0.4, 2.0]]}},
        {"prefill_milliseconds": {"autoprune": [[0.2, float("nan")], [0.4, 2.0]]}},
        {"prefill_milliseconds": {"autoprune": [[0.2]]}},
        {"prefill_milliseconds": {"autoprune": [[0.2, 1.0]]}},
    ],
    ids=repr,
)
def test_damaged_profiles(
    record: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(record, dict) and record and "schema" not in record:
        config = load_config(BenchmarkConfig, [ROOT / "configs" / "benchmark" / "cpu_decoder.yaml"])
        record = {"schema": 2, "machine": describe_machine(config), "host": describe_host(config), **record}
    (tmp_path / "t_profile.json").write_text(json.dumps(record), encoding="utf-8")
    refused(capsys, monkeypatch, main, [f"output={tmp_path}", "name=t", "milliseconds=[5]"], "profile")


OTHER: dict[str, str] = {"device": "machine", "threads": "machine", "dtype": "machine", "torch": "machine"}
OTHER |= dict.fromkeys(("kind", "layers", "hidden", "text_tokens", "view_tokens", "checkpoint"), "host")


@pytest.mark.parametrize("name", OTHER)
def test_a_profile_of_another_machine_or_model(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [f"output={tmp_path}", "name=t", "milliseconds=[5]"]
    config = load_config(BenchmarkConfig, [ROOT / "configs" / "benchmark" / "cpu_decoder.yaml"], asked)
    path = write_profile(config, {"autoprune": {0.2: 4.0, 1.0: 6.0}})
    ((_, _, budget),) = asked_milliseconds(config)
    assert budget.mean_tokens(100) == pytest.approx(60)
    assert read_profile(path, "autoprune") == {0.2: 4.0, 1.0: 6.0}
    record = json.loads(path.read_text())
    record[OTHER[name]][name] = "another"
    path.write_text(json.dumps(record))
    line = refused(
        capsys, monkeypatch, main, [f"output={tmp_path}", "name=t", "milliseconds=[5]"], "measured on another"
    )
    assert f"{name} was 'another'" in line
    assert "without milliseconds= again, here" in line
    if name == "device":
        with pytest.raises(ConfigError, match="measured on another machine"):
            read_profile(path, "autoprune")
