"""Where kept tokens stand in the images: the one place that knows, and one image of a scene at three layers."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from senna_prune.cost import ModelShape
from senna_prune.errors import ImageError, RunError
from senna_prune.evaluation.report.plots import STYLE, new_figure, to_png
from senna_prune.evaluation.run.records import Condition, Record
from senna_prune.evaluation.run.run_folder import Lines, RunFolder
from senna_prune.evaluation.score.judge import is_right
from senna_prune.files import confined, read_json, write_whole
from senna_prune.image_files import open_image
from senna_prune.task.labels import PLAN, VIEW_LABELS
from senna_prune.task.sample import PlanningSample

FILE = "kept_tokens.png"
PREFERRED = "autoprune"
_PANORAMA = ("FRONT LEFT", "FRONT", "FRONT RIGHT", "BACK RIGHT", "BACK", "BACK LEFT")
_DARKEST = 0.15
"""Brightness of a patch of which nothing is left."""
_LEVELS = 16
_SHADE = 0.75
"""Opacity of the report's mask over a patch of which nothing is left."""


@dataclass(frozen=True)
class TokenMasks:
    """How a run's visual tokens are drawn back onto images (`appearance.json`).

    Attributes:
        paths: share of each patch in each token of a view, shape (tokens, patches).
        padded: images were centred on a square before they were cut into patches; else their middle was cut out.
    """

    paths: NDArray[np.float64]
    padded: bool

    @property
    def side(self) -> int:
        """Patches along a side of the square."""
        return round(self.paths.shape[1] ** 0.5)

    @classmethod
    def of_run(cls, folder: RunFolder, shape: ModelShape) -> TokenMasks | None:
        """Those of a run, None where it has no such file; RunError if that is damaged or of another model's shape."""
        path, hint = folder.path / "appearance.json", "delete it and run the same evaluation again to write it anew"
        if not path.exists():
            return None
        record: dict[str, Any] = read_json(path, hint=hint, error=RunError)
        tokens, patches = shape.view_tokens, shape.patches
        try:
            shares = base64.b64decode(record["paths"], validate=True)
        except (KeyError, TypeError, binascii.Error) as error:
            raise RunError("not readable", where=path, hint=hint) from error
        if (record.get("tokens"), record.get("patches"), len(shares)) != (tokens, patches, tokens * patches):
            raise RunError(f"not {tokens} tokens of {patches} patches", where=path, hint=hint)
        paths = np.frombuffer(shares, dtype=np.uint8).astype(np.float64).reshape(tokens, patches)
        return cls(paths, bool(record.get("padded")))

    def shares(self, kept: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Share of every patch that goes to kept tokens, shape (..., side, side), of `kept`, shape (..., tokens)."""
        everything = self.paths.sum(axis=0)
        found = np.divide(
            kept @ self.paths, everything, out=np.zeros((*kept.shape[:-1], len(everything))), where=everything > 0
        )
        return found.reshape(*kept.shape[:-1], self.side, self.side)

    def square(self, size: tuple[int, int]) -> tuple[float, float, int]:
        """Left, top and side, in pixels, of the square of an image (width, height) that the patches divide."""
        side = max(size) if self.padded else min(size)
        return (size[0] - side) / 2, (size[1] - side) / 2, side

    def strip(self, depths: Sequence[int], views: int, layers: int) -> dict[str, Any]:
        """Masks of one decision for the report: a PNG as data URI with a line of views for every number of layers
        behind which tokens are left, and for every layer its line.

        Args:
            depths: for each token of the prompt the number of layers it enters.
            views, layers: of the model.
        """
        of_view = np.array(depths).reshape(views, -1)
        steps = np.unique([0, *depths])
        steps = steps[steps < layers]
        shares = self.shares(of_view > steps[:, None, None])  # (steps, views, side, side)
        levels = np.rint((_LEVELS - 1) * (1 - shares)).astype(np.uint8).transpose(0, 2, 1, 3)
        image = Image.fromarray(levels.reshape(len(steps) * self.side, views * self.side), "P")
        image.putpalette(bytes(3 * _LEVELS))
        opacity = bytes(round(255 * _SHADE * level / (_LEVELS - 1)) for level in range(_LEVELS))
        out = io.BytesIO()
        image.save(out, "PNG", bits=4, transparency=opacity, optimize=True)
        lines = np.searchsorted(steps, np.arange(layers), side="right") - 1
        return {"uri": f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}", "lines": lines.tolist()}


def write_kept_tokens(folder: RunFolder, image_root: Path) -> Path | None:
    """Draw `kept_tokens.png` into the folder of a finished run.

    Returns:
        Its path; None where no kept tokens were recorded, or the images are gone.

    Raises:
        RunError: the folder holds no run, or a broken one.
        FileError: the figure cannot be written.
    """
    info = folder.read_info()
    masks = TokenMasks.of_run(folder, info.shape)
    protocol = str(info.settings["scoring"]["protocol"])
    found = choose(folder.read_samples(), folder.read_lines(), info.conditions, protocol)
    if found is None or masks is None:
        return None
    sample, record = found
    try:
        pictures = [open_image(confined(image_root, path)) for path in sample.view_paths()]
    except ImageError:
        return None
    path = folder.path / FILE
    write_whole(path, to_png(draw_kept_tokens(sample, record, pictures, masks)))
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
def draw_kept_tokens(sample: PlanningSample, record: Record, pictures: list[Image.Image], masks: TokenMasks) -> Figure:
    """The cameras side by side (nuScenes' six as they stand around the car), a line each for an early, a middle and a
    late layer.

    Args:
        pictures: in the order of the prompt's view labels.
        masks: of the run.
    """
    trace = record.trace
    assert trace is not None and trace.depths is not None
    layers = early_middle_late(len(trace.entering))
    depths = np.array(trace.depths).reshape(len(pictures), -1)
    labels = sample.labels
    around = _PANORAMA if labels == VIEW_LABELS else labels
    figure, grid = new_figure(14, 5.4, nrows=len(layers), ncols=len(pictures), squeeze=False)
    for line, layer in zip(grid, layers, strict=True):
        for axes, label in zip(line, around, strict=True):
            view = labels.index(label)
            kept = depths[view] > layer
            bright = brightness(masks, kept, pictures[view].size)
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


def brightness(masks: TokenMasks, kept: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.float64]:
    """How bright each pixel of a view is drawn, shape (height, width).

    Args:
        masks: of the run.
        kept: which tokens of the view are left, shape (tokens,).
        size: width and height of the image.
    """
    (left, top, square), side = masks.square(size), masks.side
    columns, rows = (
        np.floor((np.arange(count) - start) * side / square).astype(int)
        for count, start in zip(size, (left, top), strict=True)
    )
    inside = ((columns >= 0) & (columns < side))[None] & ((rows >= 0) & (rows < side))[:, None]
    patches = masks.shares(kept)[np.clip(rows, 0, side - 1)[:, None], np.clip(columns, 0, side - 1)[None]]
    return np.where(inside, _DARKEST + (1 - _DARKEST) * patches, _DARKEST)
