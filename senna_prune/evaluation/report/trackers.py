"""Sends a run's results to experiment trackers (TensorBoard, Weights & Biases, trackio, ...) through accelerate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from senna_prune.errors import ConfigError, one_of
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.evaluation.run.run_key import flat


def require_trackers(names: Sequence[str]) -> None:
    """Find out before anything runs whether accelerate can reach the trackers.

    Raises:
        ConfigError: an unknown tracker, or one that is not installed.
    """
    if not names:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    for name in names:
        one_of(name, LOGGER_TYPE_TO_CLASS, "log_with", "tracker")
        if name not in map(str, get_available_trackers()):
            raise ConfigError(f"tracker {name!r} is not installed", where="log_with", hint=f"pip install {name}")


def track(names: Sequence[str], folder: RunFolder) -> None:
    """Log a finished run's settings and one value per row and measure, such as `accuracy %/autoprune@0.25`.

    Args:
        names: of `log_with`, checked by `require_trackers`. Those that write files write below `trackers/`.
        folder: of a scored run.
    """
    if not names:
        return
    from accelerate import Accelerator

    info, results, timing = folder.read_info(), folder.read_json("results.json"), folder.read_json("timing.json")
    accelerator = Accelerator(log_with=list(names), project_dir=folder.path / "trackers", cpu=True)
    accelerator.init_trackers(info.name, config={name: str(value) for name, value in flat(info.settings)})
    accelerator.log(dict(measures(results, timing)), step=0)
    # Not `end_training`, which also ends the process group that an evaluation's processes still share.
    for tracker in accelerator.trackers:
        tracker.finish()


def measures(results: Mapping[str, Any], timing: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """(name, value) of all rows: accuracy, ratio to the unpruned model, milliseconds; conventions are told apart."""
    groups = results["groups"]
    for group in groups:
        place = "" if len(groups) == 1 else f" ({group['convention']})"
        for row in group["rows"]:
            spent = timing["rows"].get(row["row"], {}).get("p50", {})
            for measure, value, scale in (
                ("accuracy %", row["accuracy"], 100),
                ("ratio %", row["ratio"], 100),
                ("ms", spent.get("total"), 1),
            ):
                if value is not None:
                    yield f"{measure}/{row['row']}{place}", scale * value
