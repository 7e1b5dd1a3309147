"""Frames with their objects' boxes, coloured by how many of the tokens that see them are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from senna_prune.errors import FileError, ImageError
from senna_prune.evaluation.report.browser import Pictures, around
from senna_prune.evaluation.report.kept_tokens import PREFERRED, TokenMasks, brightness
from senna_prune.evaluation.report.plots import STYLE, Plot, new_figure
from senna_prune.evaluation.run.records import CONTROLS, Condition, Record
from senna_prune.evaluation.run.run_folder import Lines
from senna_prune.task.sample import PlanningSample

DRAWN = 4
"""Frames of the gallery."""


@dataclass(frozen=True)
class Frame:
    """One decision with the images of its sample, small, in the order of the prompt's labels."""

    sample: PlanningSample
    record: Record
    images: list[Image.Image]
    sizes: list[tuple[int, int]]


def draw_dropped(
    dropped: Mapping[str, Any],
    lines: Lines,
    conditions: Sequence[Condition],
    samples: Sequence[PlanningSample],
    pictures: Pictures,
    masks: TokenMasks | None,
) -> list[Plot]:
    """A frame with many objects and the frames with the most losses, under AutoPrune where it was run, else the first
    method that is no control; none where images or lines are not there."""
    labels = {condition.row: condition for condition in reversed(conditions)}
    rows = sorted(dropped["rows"], key=lambda row: _rank(labels[row["row"]]))
    row, condition = rows[0], labels[rows[0]["row"]]
    of_key, decided = {sample.key: sample for sample in samples}, {}
    for sample in samples:
        record, _ = lines.get((sample.key, condition.id), (None, None))
        if record and record.survival and sample.objects:
            decided[sample.key] = record

    def richness(key: str) -> tuple[bool, int]:
        record = decided[key]
        assert record.survival is not None
        return bool(record.trace and record.trace.depths), sum(counts[0] > 0 for counts in record.survival.objects)

    def frames(keys: Sequence[str]) -> list[Frame]:
        each = (_frame(of_key[key], decided[key], pictures) for key in keys if key in decided)
        return [frame for frame in each if frame is not None]

    found = []
    if one := frames([max(decided, key=richness)] if decided else []):
        title = f"Objects of one frame under {condition.id}, by the share of their tokens left at half depth"
        found.append(Plot("objects", title, draw_frames(one, masks, dropped["half"]), wide=True))
    if worst := frames([entry["sample"] for entry in row["worst"][:DRAWN]]):
        title = f"Frames with the worst losses under {condition.id}"
        found.append(Plot("objects_lost", title, draw_frames(worst, masks, dropped["half"]), wide=True))
    return found


def _rank(condition: Condition) -> tuple[bool, bool]:
    return condition.method != PREFERRED, condition.method in CONTROLS


def _frame(sample: PlanningSample, record: Record, pictures: Pictures) -> Frame | None:
    try:
        images = [pictures.open(path) for path in sample.view_paths()]
    except (FileError, ImageError):
        return None
    sizes = [image.size for image in images]
    for image in images:
        image.thumbnail((320, 320))
    return Frame(sample, record, images, sizes)


@mpl.rc_context(STYLE)
def draw_frames(frames: Sequence[Frame], masks: TokenMasks | None, layer: int) -> Figure:
    """A line of images per frame: green boxes keep all of their tokens at `layer`, red ones none; grey: no token saw
    them. Where kept tokens were recorded, patches of which nothing is left are dark."""
    views = len(frames[0].images)
    figure, grid = new_figure(2.4 * views, 1.6 * len(frames), nrows=len(frames), ncols=views, squeeze=False)
    colours = mpl.colormaps["RdYlGn"]
    for number, (line, frame) in enumerate(zip(grid, frames, strict=True)):
        trace, survival = frame.record.trace, frame.record.survival
        assert survival is not None
        at = 1 + survival.layers.index(layer)
        for axes, view in zip(line, around(frame.sample.labels), strict=True):
            image, camera = frame.images[view], frame.sample.cameras[view]
            pixels, scale = np.asarray(image), image.width / frame.sizes[view][0]
            if masks is not None and trace is not None and trace.depths is not None:
                kept = np.array(trace.depths).reshape(views, -1)[view] > layer
                pixels = (pixels * (0.4 + 0.6 * brightness(masks, kept, image.size))[..., None]).astype(np.uint8)
            axes.imshow(pixels)
            for seen, counts in zip(frame.sample.objects or (), survival.objects, strict=True):
                if camera in seen.boxes:
                    left, top, right, bottom = (edge * scale for edge in seen.boxes[camera])
                    colour = colours(counts[at] / counts[0]) if counts[0] else "grey"
                    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour))
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            if not number:
                axes.set_title(frame.sample.labels[view], fontsize=8)
        line[0].set_ylabel(frame.sample.scene[:24], fontsize=7)
    return figure
