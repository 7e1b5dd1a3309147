"""Measured attention as a table, a CSV file and maps on the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from senna_prune.evaluation.audit.measure import Measured
from senna_prune.evaluation.audit.survival import Floats, View
from senna_prune.evaluation.report.plots import STYLE, new_figure
from senna_prune.evaluation.report.table import Table

DRAWN = (2, 4, 8, 16)
"""Layers of 32 whose maps are drawn, as in the paper's Fig. 1; scaled to the decoder's depth."""
NOTE = (
    "Attention of the last prompt token and, behind the stroke, of the question, means over prompts. On images: its "
    "share on visual tokens. Effective: tokens it is on (exp of its entropy). Moved: share of it that lies elsewhere "
    "than in the layer before. Objects: its share on tokens that see objects over their share of the tokens, 1 is "
    "chance. AUC: chance that such a token gets more than another, .5 is chance. Rank: effective rank of the visual "
    "states that enter the layer."
)


def drawn_layers(layers: int) -> list[int]:
    """`DRAWN`, scaled and numbered from 0."""
    return sorted({min(max(round(one * layers / 32), 1), layers - 1) for one in DRAWN})


def attention_table(rows: Sequence[Mapping[str, Any]], kind: str) -> Table:
    """One line per layer, of one kind of question in `audit.measure.summary`."""
    by_layer: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["kind"] == kind:
            by_layer.setdefault(row["layer"], []).append(row)

    def both(pair: Sequence[Mapping[str, Any]], name: str, form: str) -> str:
        return " / ".join("-" if np.isnan(row[name]) else format(row[name], form) for row in pair)

    lines = [
        {
            "layer": str(layer),
            "on images %": both([{**row, "share": 100 * row["share"]} for row in pair], "share", ".1f"),
            "effective": both(pair, "effective", ".0f"),
            "moved": both(pair, "moved", ".2f"),
            "objects": both(pair, "lift", ".2f"),
            "AUC": both(pair, "area", ".2f"),
            "rank": f"{pair[0]['rank']:.1f}",
        }
        for layer, pair in by_layer.items()
    ]
    first = by_layer[0][0]
    title = f"Attention, {kind}: {first['prompts']} prompts of {first['visual']:.0f} visual tokens"
    return Table.of(title, lines, NOTE)


@mpl.rc_context(STYLE)
def draw_attention(measured: Measured) -> Figure | None:
    """The images side by side, a line for each of `drawn_layers`, bright where the last prompt token's attention is.

    Returns:
        None where it is not known where the visual tokens stand.
    """
    if measured.views is None:
        return None
    layers, images = drawn_layers(len(measured.attention.rank)), measured.images
    size = (2.4 * len(images), 1.7 * len(layers))
    figure, grid = new_figure(*size, nrows=len(layers), ncols=len(images), squeeze=False)
    for line, layer in zip(grid, layers, strict=True):
        place, heats, start = measured.attention.place[0, layer], [], 0
        for view, image in zip(measured.views, images, strict=True):
            heats.append(heat(place[start : start + view.num_tokens], view, image.size))
            start += view.num_tokens
        most = max(float(one.max()) for one in heats) or 1.0
        for axes, image, own, camera in zip(line, images, heats, measured.asked.paths, strict=True):
            small = np.asarray(image.resize((own.shape[1], own.shape[0])))
            axes.imshow((small * (0.15 + 0.85 * own / most)[..., None]).astype(np.uint8))
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            if layer == layers[0]:
                axes.set_title(camera, fontsize=8)
        line[0].set_ylabel(f"layer {layer}", fontsize=9)
    figure.suptitle(f"{measured.asked.kind}: {measured.asked.name}", parse_math=False, fontsize=9)
    return figure


def heat(place: Floats, view: View, size: tuple[int, int], longest: int = 320) -> Floats:
    """How much of a distribution over one image's tokens lies on each pixel of a small copy, shape (height, width)."""
    scale = min(longest / max(size), 1.0)
    width, height = (max(round(length * scale), 1) for length in size)
    found = np.zeros((height, width))
    per_patch = place if view.token_shares is None else place @ view.token_shares
    edges = np.rint(view.patches * scale).astype(int).clip(0, [width, height, width, height])
    for value, (left, top, right, bottom) in zip(per_patch, edges, strict=True):
        if left < right and top < bottom:
            found[top:bottom, left:right] += value / ((right - left) * (bottom - top))
    return found
