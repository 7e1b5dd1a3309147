"""The export for the Rerun viewer: what it logs where. The viewer's package is stood in for: it needs another numpy."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from senna_prune.commands import evaluate, rerun_export
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.task.labels import CAMERAS
from tests.evaluation.checkpoint import write_checkpoint, write_planning_set


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rerun")
    write_checkpoint(folder / "model")
    write_planning_set(folder / "data", count=2)
    data = folder / "data"
    settings = [f"data.planning_set={data}/set.jsonl", f"data.image_root={data}", f"model.path={folder}/model"]
    settings += ["readout.mode=one_pass", "pruning.methods=[none,autoprune]", "scoring.resamples=10"]
    assert evaluate.main([*settings, f"output={folder}/run"]) == 0
    return folder / "run"


class Recording:
    """Keeps what was logged with the time it was logged at."""

    def __init__(self, name: str) -> None:
        self.now: dict[str, float] = {}
        self.logged: list[tuple[str, dict[str, float], Any]] = []
        Recording.latest = self

    def save(self, path: Path, default_blueprint: object) -> None:
        path.write_bytes(b"rrd")
        Recording.blueprint = default_blueprint

    def set_time(self, timeline: str, *, sequence: int | None = None, timestamp: float | None = None) -> None:
        self.now[timeline] = sequence if sequence is not None else timestamp

    def log(self, path: str, what: Any) -> None:
        self.logged.append((path, dict(self.now), what))

    def flush(self) -> None:
        pass


@pytest.fixture
def rerun(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a package of that name in the viewer's place."""

    def part(*args: Any, **named: Any) -> SimpleNamespace:
        return SimpleNamespace(args=args, **named)

    module, views = ModuleType("rerun"), ModuleType("rerun.blueprint")
    for name in ("EncodedImage", "TextDocument", "BarChart", "Scalars", "Points2D"):
        setattr(module, name, part)
    names = ("Spatial2DView", "TextDocumentView", "BarChartView", "TimeSeriesView", "Grid", "Vertical", "Horizontal")
    for name in (*names, "TimePanel", "Blueprint"):
        setattr(views, name, part)
    module.RecordingStream, module.blueprint = Recording, views  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rerun", module)
    monkeypatch.setitem(sys.modules, "rerun.blueprint", views)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_what_is_logged(run: Path, rerun: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert rerun_export.main([str(run), "--image-root", str(run.parent / "data")]) == 0
    assert capsys.readouterr().out.strip() == str(run / "autoprune@0.25.rrd")
    records = RunFolder(run).read_lines()
    samples = RunFolder(run).read_samples()
    logged = Recording.latest.logged
    for number, sample in enumerate(samples):
        record, _ = records[sample.key, "autoprune@0.25"]
        layers = len(record.trace.entering)
        tokens = [entry for entry in logged if entry[0] == "tokens/entering"][number * layers : (number + 1) * layers]
        assert [entry[2].args[0] for entry in tokens] == list(record.trace.entering)
        assert [entry[1]["layer"] for entry in tokens] == list(range(number * layers, (number + 1) * layers))
        assert all(entry[1]["timestamp"] == sample.timestamp / 1e6 for entry in tokens)
        answers = [entry[2].args[0] for entry in logged if entry[0] == "plan/answer"]
        assert answers[number].startswith(f"**{record.answer}**")
    for camera in CAMERAS:
        images = [entry[2].path for entry in logged if entry[0] == f"world/ego_vehicle/{camera}"]
        assert [path.name for path in images] == [f"{camera}.png"] * len(samples)
        discs = [entry for entry in logged if entry[0] == f"world/ego_vehicle/{camera}/kept"]
        first = next(entry[2] for entry in discs if entry[1]["layer"] == 0)
        radii = np.asarray(first.radii)
        assert np.allclose(radii, radii[0]), "all tokens enter layer 0, so each patch is there in full"
        places, (width, height) = np.asarray(first.args[0]), Image.open(images[0]).size
        assert (places >= 0).all() and (places[:, 0] < width).all() and (places[:, 1] < height).all()
    assert {"latency/prefill", "latency/readout", "plan/distribution"} <= {entry[0] for entry in logged}


def test_another_condition_is_refused(run: Path, rerun: None, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(run), "--image-root", str(run.parent / "data"), "--condition", "none"]
    assert rerun_export.main(command) == 2
    assert "under condition 'none'. Recorded are: autoprune@0.25" in capsys.readouterr().err


def test_images_stay_below_their_folder(run: Path, rerun: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert rerun_export.main([str(run), "--image-root", str(run)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_without_the_viewer_one_line_says_what_to_install(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert rerun_export.main([str(run), "--image-root", "."]) == 2
    assert "rerun-sdk is not installed. Run pip install" in capsys.readouterr().err
