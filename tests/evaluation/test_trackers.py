"""Results sent to experiment trackers, which accelerate opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accelerate.tracking
import pytest
from accelerate.tracking import GeneralTracker
from accelerate.utils import LoggerType

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.errors import ConfigError
from senna_prune.evaluation.evaluate import evaluate
from tests.evaluation.dummy import DummySystem, make_planning_set


class Notebook(GeneralTracker):
    """Remembers what it is told."""

    name = "tensorboard"
    requires_logging_directory = True
    told: dict[str, Any]

    def __init__(self, run_name: str, logging_dir: Any) -> None:
        super().__init__()
        Notebook.told = {"run": run_name, "place": str(logging_dir)}

    @property
    def tracker(self) -> None:
        return None

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.told["settings"] = values

    def log(self, values: dict[str, float], step: int | None) -> None:
        self.told["values"] = values

    def finish(self) -> None:
        self.told["finished"] = True


def settings(tmp_path: Path, *overrides: str) -> EvaluationConfig:
    given = [f"data.planning_set={tmp_path}/set.jsonl", f"data.image_root={tmp_path}", f"output={tmp_path}/run"]
    given += ["pruning.methods=[none,fastv]", "pruning.retentions=[0.25]", "name=tried"]
    return load_config(EvaluationConfig, [], [*given, *overrides])


def test_every_row_is_logged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_planning_set(tmp_path)
    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", lambda: [LoggerType.TENSORBOARD])
    for place in ("accelerate.tracking", "accelerate.accelerator"):
        monkeypatch.setitem(__import__(place, fromlist=["_"]).LOGGER_TYPE_TO_CLASS, "tensorboard", Notebook)
    config = settings(tmp_path, "log_with=[tensorboard]")
    evaluate(config, DummySystem(config))
    told = Notebook.told
    assert told["run"] == "tried"
    assert told["place"] == str(tmp_path / "run" / "trackers")
    assert told["settings"]["readout.mode"] == "generate"
    assert told["values"]["ratio %/none"] == 100
    assert {"accuracy %/fastv@0.25", "ms/fastv@0.25", "accuracy %/majority"} <= told["values"].keys()
    assert told["finished"]


@pytest.mark.parametrize(
    ("name", "problem"), [("tensorbord", "unknown tracker 'tensorbord'. Did you mean 'tensorboard'?"), ("aim", "aim")]
)
def test_a_tracker_that_cannot_be_reached_is_refused_before_anything_runs(
    tmp_path: Path, name: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_planning_set(tmp_path)
    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", list)
    config = settings(tmp_path, f"log_with=[{name}]")
    with pytest.raises(ConfigError, match=problem.replace("?", r"\?")):
        evaluate(config, DummySystem(config))
    assert not (tmp_path / "run").exists()
