"""Hostile settings, outputs and profiles for tools/benchmark.py: one line and exit 2, before anything is timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from senna_prune.benchmark import run
from senna_prune.benchmark.profile import asked_milliseconds, read_profile, write_profile
from senna_prune.benchmark.settings import BenchmarkConfig
from senna_prune.config import load_config
from senna_prune.errors import ConfigError
from tests.conftest import ROOT
from tests.hostile import fifo
from tests.hostile.conftest import Refuse
from tools.benchmark import main


@pytest.fixture(autouse=True)
def _nothing_is_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A refusal comes before the hardware is measured; results would lie in `tmp_path`."""

    def timed(*_: Any) -> Any:
        raise AssertionError("refused too late")

    monkeypatch.setattr(run, "measure_hardware", timed)
    monkeypatch.chdir(tmp_path)


_OWN = """dtype=auto name=../../x name= retentions=[0.25,0.25] retentions=[.nan] methods=[autoprune,autoprune]
milliseconds=[-1] milliseconds=[.inf] compare=[flash_attention_2] threads=0 threads=100000000 images=[0,0]
images=[1000000000,1000000000] images=[900] host.layers=0 host.patch=0 host.vocabulary=1 host.text_tokens=5
host.text_tokens=1000000000 host.view_tokens=100000 host.image_size=7 retentions=[0.2,1.5] retentions=[] batch_sizes=[0]
repeats=0 dtype=float8 compare=[spda] hosts.layers=2 methods=[autoprun]"""
SETTINGS = [(setting, setting.partition("=")[0]) for setting in _OWN.split()]
SETTINGS += [("host.heads=3", "host.hidden"), ("milliseconds=[5]", "no profile yet")]
SETTINGS += [(one, "cannot be written") for one in (f"name={'n' * 300}", "output=/dev/null", "output=/proc/nowhere")]


@pytest.mark.parametrize(("setting", "where"), SETTINGS)
def test_settings(setting: str, where: str, refuse: Refuse) -> None:
    refuse(main, [setting], where)


def test_what_does_not_fit(tmp_path: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    for ending in (".json", ".txt", ".png", "_profile.json"):
        path = fifo(tmp_path / f"t{ending}")
        refuse(main, [f"output={tmp_path}", "name=t"], path.name, "cannot be written")
        path.unlink()
    monkeypatch.setattr(run, "measure_hardware", lambda *_: run.Hardware(1e9, 1e9))
    refuse(main, ["host.layers=1000000000"], "memory")


TIMES = {"autoprune": [[0.2, 4.0], [1.0, 6.0]]}
DAMAGED: list[Any] = ["{", [], 5, {}, {"schema": 2}, {"schema": 2, "prefill_milliseconds": TIMES}]
CHANGED: list[dict[str, Any]] = [{"schema": 1}, {"machine": []}, {"host": None}]
CHANGED += [{"prefill_milliseconds": one} for one in ([], {}, {"autoprune": None}, {"autoprune": [[0.2]]})]
CHANGED += [{"prefill_milliseconds": {"autoprune": [[0.2, one], [0.4, 2.0]]}} for one in ("x", float("nan"))]
CHANGED += [{"prefill_milliseconds": {"autoprune": [[0.2, 1.0]]}}]
CHANGED += [{"machine": {name: "another"}} for name in ("device", "threads", "dtype", "torch")]
CHANGED += [{"host": {name: "another"}} for name in ("kind", "layers", "hidden", "text_tokens", "checkpoint")]


def test_profiles(tmp_path: Path, refuse: Refuse) -> None:
    asked = [f"output={tmp_path}", "name=t", "milliseconds=[5]"]
    config = load_config(BenchmarkConfig, [ROOT / "configs" / "benchmark" / "cpu_decoder.yaml"], asked)
    path = write_profile(config, {"autoprune": {0.2: 4.0, 1.0: 6.0}})
    sound = json.loads(path.read_text())
    ((_, _, budget),) = asked_milliseconds(config)
    assert budget.mean_tokens(100) == pytest.approx(60)
    assert read_profile(path, "autoprune") == {0.2: 4.0, 1.0: 6.0}
    for record in DAMAGED:
        path.write_text(record if isinstance(record, str) else json.dumps(record))
        refuse(main, asked, "profile")
    for change in CHANGED:
        (part, value), *_ = change.items()
        other = isinstance(value, dict) and "another" in value.values()
        path.write_text(json.dumps(sound | {part: sound[part] | value if other else value}))
        mentions = ("measured on another", f"{min(value)} was 'another'", "again, here") if other else ("profile",)
        refuse(main, asked, *mentions)
        if change == {"machine": {"device": "another"}}:
            with pytest.raises(ConfigError, match="measured on another machine"):
                read_profile(path, "autoprune")
