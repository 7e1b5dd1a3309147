"""Export a run for the Rerun viewer: cameras, kept tokens by layer, the plan's distribution, latency.

Reads the run folder and the images alone. rerun-sdk needs numpy 2, the nuScenes devkit numpy 1, so it lives in an
environment of its own: `pip install -e ".[rerun]"` without the extra `nuscenes`.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from senna_prune.cli import guarded
from senna_prune.errors import ConfigError, RunError
from senna_prune.evaluation.report.browser import around
from senna_prune.evaluation.report.kept_tokens import TokenMasks
from senna_prune.evaluation.run.records import Record, Timing
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.files import check_output, confined
from senna_prune.task.labels import view_label
from senna_prune.task.sample import PlanningSample


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder, finished or not")
    parser.add_argument("--image-root", type=Path, required=True, help="folder of the images, as in the run")
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
        ImageError, FileError: an image or the output is unusable.
    """
    if importlib.util.find_spec("rerun") is None:
        hint = "run pip install -e '.[rerun]' in an environment of its own: it needs numpy 2, the nuScenes devkit 1"
        raise ConfigError("rerun-sdk is not installed", where="rerun", hint=hint)
    import rerun

    folder = RunFolder(run)
    info, samples = folder.read_info(), folder.read_samples()
    if (masks := TokenMasks.of_run(folder, info.shape)) is None:
        raise RunError("appearance.json is absent", where=run, hint="run the same evaluation again to write it")
    drawn = {key: line for key, line in folder.read_lines().items() if line[0].trace and line[0].trace.depths}
    known = [one.id for one in info.conditions if one.retention and any(key[1] == one.id for key in drawn)]
    chosen = condition or next(iter(known), "")
    if chosen not in known:
        hint = f"recorded are: {', '.join(known) or 'none; evaluate a method with kept_samples above 0'}"
        raise RunError(f"no kept tokens are recorded under condition {chosen!r}", where=run, hint=hint)
    check_output(path := out or run / f"{chosen}.rrd")
    recording = rerun.RecordingStream("senna_prune")
    recording.save(path, default_blueprint=_layout(samples[0]))
    for number, sample in enumerate(one for one in samples if (one.key, chosen) in drawn):
        _log(recording, number, sample, drawn[sample.key, chosen], image_root, masks)
    recording.flush()
    return path


def _layout(sample: PlanningSample) -> Any:
    """The cameras, nuScenes' six as they stand around the car, beside them plan, tokens by layer, latency; plays 4
    layers a second."""
    from rerun import blueprint as show

    names = [sample.cameras[view] for view in around(sample.labels)]
    views = [show.Spatial2DView(origin=f"world/ego_vehicle/{name}", name=view_label(name)) for name in names]
    beside = [show.TextDocumentView(origin="plan/answer"), show.BarChartView(origin="plan/distribution")]
    beside += [show.TimeSeriesView(origin=name, name=name) for name in ("tokens", "latency")]
    shown = show.Horizontal(show.Grid(*views, grid_columns=3), show.Vertical(*beside), column_shares=[3, 1])
    return show.Blueprint(shown, show.TimePanel(timeline="layer", fps=4, state="collapsed"), collapse_panels=True)


def _log(
    recording: Any,
    number: int,
    sample: PlanningSample,
    line: tuple[Record, Timing],
    root: Path,
    masks: TokenMasks,
) -> None:
    """Log one sample. A disc shows by its size how much of a patch is left."""
    import numpy as np
    import rerun

    from senna_prune.image_files import open_image

    (record, timing), trace = line, line[0].trace
    assert trace is not None and trace.depths is not None
    layers, depths = len(trace.entering), np.array(trace.depths).reshape(len(sample.cameras), -1)
    recording.set_time("timestamp", timestamp=sample.timestamp / 1e6)
    recording.set_time("layer", sequence=number * layers)
    answer = f"**{record.answer}** (truth {record.truth.strip()})\n\n{sample.question.rpartition('<image>')[2].strip()}"
    recording.log("plan/answer", rerun.TextDocument(answer, media_type="text/markdown"))
    if record.distribution is not None:
        recording.log("plan/distribution", rerun.BarChart(np.array(record.distribution)))
    for stage, spent in timing.get("milliseconds", {}).items():
        recording.log(f"latency/{stage}", rerun.Scalars(spent))
    for camera, name, depth in zip(sample.cameras, sample.view_paths(), depths, strict=True):
        image = confined(root, name)
        size = open_image(image).size
        recording.log(f"world/ego_vehicle/{camera}", rerun.EncodedImage(path=image))
        left, top, square = masks.square(size)
        rows, columns = np.indices((masks.side, masks.side)).reshape(2, -1) + 0.5
        centres = np.stack((columns, rows), axis=1) * square / masks.side + (left, top)
        inside = ((centres >= 0) & (centres < size)).all(axis=1)  # not in the padding
        for layer in [0, *np.unique(depth[(depth > 0) & (depth < layers)])]:  # where this view's tokens change
            shares = masks.shares(depth > layer).ravel() * inside
            recording.set_time("layer", sequence=number * layers + int(layer))
            radii = shares[shares > 0] * square / masks.side / 2
            discs = rerun.Points2D(centres[shares > 0], radii=radii, colors=(90, 220, 120))
            recording.log(f"world/ego_vehicle/{camera}/kept", discs)
        recording.set_time("layer", sequence=number * layers)
    for layer, entering in enumerate(trace.entering):
        recording.set_time("layer", sequence=number * layers + layer)
        recording.log("tokens/entering", rerun.Scalars(float(entering)))
