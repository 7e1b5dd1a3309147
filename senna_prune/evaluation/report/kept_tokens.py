"""One picture of what a method kept: a scene's six cameras, dimmed where no token is left, at three depths."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from senna_prune.errors import ImageError
from senna_prune.evaluation.report.plots import STYLE, new_figure, to_png
from senna_prune.evaluation.run.records import Condition, Record
from senna_prune.evaluation.run.run_folder import Lines, RunFolder
from senna_prune.evaluation.score.judge import is_right
from senna_prune.files import confined, write_whole
from senna_prune.pictures import open_picture
from senna_prune.task.labels import PLAN, VIEW_LABELS
from senna_prune.task.sample import PlanningSample

FILE = "kept_tokens.png"
PREFERRED = "autoprune"
_PANORAMA = ("FRONT LEFT", "FRONT", "FRONT RIGHT", "BACK RIGHT", "BACK", "BACK LEFT")
_DARKEST = 0.15
"""Brightness of a patch of which nothing is left."""


def write_kept_tokens(folder: RunFolder, image_root: Path) -> Path | None:
    """Draw `kept_tokens.png` into the folder of a finished run.

    Returns:
        Its path; None where no kept tokens were recorded, or the pictures are gone.

    Raises:
        RunError: the folder holds no run, or a broken one.
        FileError: the picture cannot be written.
    """
    if not (folder.path / "appearance.json").exists():
        return None
    info, appearance = folder.read_info(), folder.read_json("appearance.json")
    protocol = str(info.settings["scoring"]["protocol"])
    found = choose(folder.read_samples(), folder.read_lines(), info.conditions, protocol)
    if found is None:
        return None
    sample, record = found
    try:
        pictures = [open_picture(confined(image_root, path)) for path in sample.view_paths()]
    except ImageError:
        return None
    path = folder.path / FILE
    write_whole(path, to_png(draw_kept_tokens(sample, record, pictures, appearance)))
    return path


def choose(
    samples: list[PlanningSample], lines: Lines, conditions: tuple[Condition, ...], protocol: str
) -> tuple[PlanningSample, Record] | None:
    """The first sample whose kept tokens were recorded, if possible a plan and one answered rightly, and its line.

    AutoPrune's line where it was run, else that of the first method with a budget.
    """
    samples = [sample for sample in samples if sample.kind == PLAN] or samples
    budgeted = [condition for condition in conditions if condition.retention is not None]
    for condition in sorted(budgeted, key=lambda one: one.method != PREFERRED):
        drawn = []
        for sample in samples:
            record, _ = lines.get((sample.key, condition.id), (None, None))
            if record and record.trace and record.trace.depths:
                drawn.append((sample, record))
        if drawn:
            right = [(s, r) for s, r in drawn if is_right(s.kind, r.truth, r.answer, protocol)]
            return (right or drawn)[0]
    return None


@mpl.rc_context(STYLE)
def draw_kept_tokens(
    sample: PlanningSample, record: Record, pictures: list[Image.Image], appearance: Mapping[str, Any]
) -> Figure:
    """The cameras side by side (nuScenes' six as they stand around the car), a line each for an early, a middle and a
    late layer.

    Args:
        pictures: in the order of the prompt's view labels.
        appearance: `appearance.json` of the run: the share of each patch in each token.
    """
    trace = record.trace
    assert trace is not None and trace.depths is not None
    layers = early_middle_late(len(trace.entering))
    shares = np.frombuffer(base64.b64decode(appearance["paths"]), dtype=np.uint8).astype(np.float64)
    paths = shares.reshape(appearance["tokens"], appearance["patches"])
    depths = np.array(trace.depths).reshape(len(pictures), -1)
    labels = sample.labels
    around = _PANORAMA if labels == VIEW_LABELS else labels
    figure, grid = new_figure(14, 5.4, nrows=len(layers), ncols=len(pictures), squeeze=False)
    for line, layer in zip(grid, layers, strict=True):
        for axes, label in zip(line, around, strict=True):
            view = labels.index(label)
            kept = depths[view] > layer
            bright = brightness(paths, kept, pictures[view].size, bool(appearance["padded"]))
            axes.imshow((np.asarray(pictures[view]) * bright[..., None]).astype(np.uint8))
            axes.set_xlabel(f"{kept.sum()} of {kept.size}", fontsize=8)
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            if layer == layers[0]:
                axes.set_title(label, fontsize=9)
        line[0].set_ylabel(f"layer {layer}", fontsize=9)
    told = "rightly" if record.answer and record.answer.strip() == record.truth.strip() else f"truth {record.truth}"
    figure.suptitle(f"{record.condition}, {sample.scene}: {record.answer} ({told.strip()})", parse_math=False)
    return figure


def early_middle_late(layers: int) -> list[int]:
    """Numbers of a layer in the first eighth, in the middle and at the end; fewer where the decoder is shorter."""
    return sorted({max(1, layers // 8) if layers > 1 else 0, layers // 2, layers - 1})


def brightness(
    paths: NDArray[np.float64], kept: NDArray[np.bool_], size: tuple[int, int], padded: bool
) -> NDArray[np.float64]:
    """How bright each pixel of a view is drawn, shape (height, width).

    Args:
        paths: share of each patch in each token, shape (tokens, patches).
        kept: which tokens of the view are left, shape (tokens,).
        size: width and height of the picture.
        padded: the picture was centred on a square before it was cut into patches; else its middle was cut out.
    """
    everything = paths.sum(axis=0)
    share = np.divide(kept @ paths, everything, out=np.zeros_like(everything), where=everything > 0)
    side = round(len(share) ** 0.5)
    width, height = size
    square = max(width, height) if padded else min(width, height)
    across = (np.arange(width) - (width - square) / 2) * side / square
    down = (np.arange(height) - (height - square) / 2) * side / square
    columns, rows = np.floor(across).astype(int), np.floor(down).astype(int)
    inside = ((columns >= 0) & (columns < side))[None] & ((rows >= 0) & (rows < side))[:, None]
    patches = share.reshape(side, side)[np.clip(rows, 0, side - 1)[:, None], np.clip(columns, 0, side - 1)[None]]
    return np.where(inside, _DARKEST + (1 - _DARKEST) * patches, _DARKEST)
