"""Export a run for the Rerun viewer: cameras, kept tokens by layer, the plan's distribution, latency.

Reads the run folder and the pictures alone. rerun-sdk needs numpy 2, the nuScenes devkit numpy 1, so it lives in an
environment of its own: `pip install -e ".[rerun]"` without the extra `nuscenes`.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from senna_prune.cli import guarded
from senna_prune.errors import ConfigError, RunError
from senna_prune.evaluation.run.records import Record
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.files import check_output, confined
from senna_prune.task.sample import PlanningSample


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder, finished or not")
    parser.add_argument("--image-root", type=Path, required=True, help="folder of the pictures, as in the run")
    parser.add_argument("--condition", help="e.g. autoprune@0.25 (default: the first whose kept tokens were recorded)")
    parser.add_argument("--out", type=Path, help="file to write (default: RUN/CONDITION.rrd)")
    options = parser.parse_args(arguments)
    return guarded(lambda: print(export(**vars(options))), interrupted="the recording is unfinished")


def export(run: Path, image_root: Path, condition: str | None = None, out: Path | None = None) -> Path:
    """Write those samples of a run whose kept tokens were recorded, under one condition; returns the file.

    Two timelines: `timestamp` is the time of the keyframe, `layer` steps through sample 0's L layers, then sample 1's.

    Raises:
        ConfigError: rerun-sdk is not installed.
        RunError: no run, or no kept tokens were recorded under that condition.
        ImageError, FileError: a picture or the output is unusable.
    """
    if importlib.util.find_spec("rerun") is None:
        hint = "run pip install -e '.[rerun]' in an environment of its own: it needs numpy 2, the nuScenes devkit 1"
        raise ConfigError("rerun-sdk is not installed", where="rerun", hint=hint)
    import rerun

    folder = RunFolder(run)
    conditions, appearance = folder.read_info().conditions, folder.read_json("appearance.json")
    drawn = {key: line for key, line in folder.read_lines().items() if line[0].trace and line[0].trace.depths}
    known = [one.id for one in conditions if one.retention and any(key[1] == one.id for key in drawn)]
    chosen = condition or next(iter(known), "")
    if chosen not in known:
        hint = f"recorded are: {', '.join(known) or 'none; evaluate a method with kept_samples above 0'}"
        raise RunError(f"no kept tokens are recorded under condition {chosen!r}", where=run, hint=hint)
    check_output(path := out or run / f"{chosen}.rrd")
    recording = rerun.RecordingStream("senna_prune")
    recording.save(path, default_blueprint=_layout())
    for number, sample in enumerate(one for one in folder.read_samples() if (one.key, chosen) in drawn):
        _log(recording, number, sample, drawn[sample.key, chosen], image_root, appearance)
    recording.flush()
    return path


def _layout() -> Any:
    """Six cameras as they stand around the car, beside them plan, tokens by layer, latency; plays 4 layers a second."""
    from rerun import blueprint as show

    around = ("FRONT_LEFT", "FRONT", "FRONT_RIGHT", "BACK_LEFT", "BACK", "BACK_RIGHT")
    views = [show.Spatial2DView(origin=f"world/ego_vehicle/CAM_{name}", name=name) for name in around]
    beside = [show.TextDocumentView(origin="plan/answer"), show.BarChartView(origin="plan/distribution")]
    beside += [show.TimeSeriesView(origin=name, name=name) for name in ("tokens", "latency")]
    shown = show.Horizontal(show.Grid(*views, grid_columns=3), show.Vertical(*beside), column_shares=[3, 1])
    return show.Blueprint(shown, show.TimePanel(timeline="layer", fps=4, state="collapsed"), collapse_panels=True)


def _log(
    recording: Any, number: int, sample: PlanningSample, line: tuple[Record, dict[str, Any]], root: Path, looks: Any
) -> None:
    """Log one sample; `looks` is `appearance.json`. A disc shows by its size how much of a patch is left."""
    import numpy as np
    import rerun

    from senna_prune.pictures import open_picture

    (record, timing), trace, order = line, line[0].trace, sample.convention.camera_order
    assert trace is not None and trace.depths is not None
    layers, depths = len(trace.entering), np.array(trace.depths).reshape(len(order), -1)
    shares = np.frombuffer(base64.b64decode(looks["paths"]), dtype=np.uint8)
    paths = shares.astype(float).reshape(looks["tokens"], looks["patches"])
    everything, side = np.maximum(paths.sum(axis=0), 1e-9), round(looks["patches"] ** 0.5)
    recording.set_time("timestamp", timestamp=sample.timestamp / 1e6)
    recording.set_time("layer", sequence=number * layers)
    answer = f"**{record.answer}** (truth {record.truth.strip()})\n\n{sample.question.rpartition('<image>')[2].strip()}"
    recording.log("plan/answer", rerun.TextDocument(answer, media_type="text/markdown"))
    if record.distribution is not None:
        recording.log("plan/distribution", rerun.BarChart(np.array(record.distribution)))
    for stage, spent in timing.get("milliseconds", {}).items():
        recording.log(f"latency/{stage}", rerun.Scalars(spent))
    for camera, name in sample.images.items():
        picture = confined(root, name)
        size = np.array(open_picture(picture).size)
        recording.log(f"world/ego_vehicle/{camera}", rerun.EncodedImage(path=picture))
        square = size.max() if looks["padded"] else size.min()
        places = np.stack(np.divmod(np.arange(side**2), side)[::-1], axis=1) + 0.5
        centres = places * square / side + (size - square) / 2
        inside = ((centres >= 0) & (centres < size)).all(axis=1)  # not in the padding
        depth = depths[order.index(camera)]
        for layer in [0, *np.unique(depth[(depth > 0) & (depth < layers)])]:  # where this view's tokens change
            left = (depth > layer) @ paths / everything * inside  # share of each patch in the tokens that are left
            recording.set_time("layer", sequence=number * layers + int(layer))
            discs = rerun.Points2D(centres[left > 0], radii=left[left > 0] * square / side / 2, colors=(90, 220, 120))
            recording.log(f"world/ego_vehicle/{camera}/kept", discs)
        recording.set_time("layer", sequence=number * layers)
    for layer, entering in enumerate(trace.entering):
        recording.set_time("layer", sequence=number * layers + layer)
        recording.log("tokens/entering", rerun.Scalars(float(entering)))
