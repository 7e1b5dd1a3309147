"""Attention measured over many prompts: means by kind of question and layer, and what they say in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from senna_prune.errors import InputError
from senna_prune.evaluation.audit.attention import QUERIES, PromptAttention, prompt_attention, views_of
from senna_prune.evaluation.audit.intervals import ratio_of_sums
from senna_prune.evaluation.audit.prompts import Asked, model_inputs
from senna_prune.evaluation.audit.survival import Floats, View, seeing_tokens
from senna_prune.hosts.host import unwrapped

FOUND = 0.6
"""Mean area under the ROC curve from which attention is said to find objects, if its interval lies above .5."""


@dataclass(frozen=True)
class Measured:
    """One prompt.

    Attributes:
        asked: what it was.
        attention: what was measured.
        lift, area: of the attention on objects, shape (2, L), NaN where none are told; see `PromptAttention.on`.
        images, views: as they were read, and where its visual tokens stand; views None where the host does not know.
    """

    asked: Asked
    attention: PromptAttention
    lift: Floats
    area: Floats
    images: list[Image.Image]
    views: list[View] | None


def measure(model: Any, processor: Any, asked: Asked) -> Measured:
    """Read one prompt; raises as `model_inputs` and `prompt_attention` do."""
    inputs, images = model_inputs(processor, asked)
    attention = prompt_attention(model, inputs.to(unwrapped(model).device))
    layout = attention.layout
    if len(layout.views) != len(images):
        raise InputError(f"{len(layout.views)} images stand in the prompt of {len(images)}", where=asked.name)
    views = views_of(model, processor, inputs, [image.size for image in images], layout)
    lift = area = np.full(attention.share.shape, np.nan)
    if asked.objects and views is not None:
        by_camera = dict(zip(asked.paths, views, strict=True))
        lift, area = attention.on(np.any([seeing_tokens(one, by_camera) for one in asked.objects], axis=0))
    return Measured(asked, attention, lift, area, images, views)


def summary(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """A row per kind of question (and all), kind of query and layer: means over prompts, and the area's interval."""
    kinds = list(dict.fromkeys(one.asked.kind for one in measured))
    groups = {"all": list(measured)} if len(kinds) > 1 else {}
    groups |= {kind: [one for one in measured if one.asked.kind == kind] for kind in kinds}
    return [row for kind, group in groups.items() for row in _of_group(kind, group)]


def _of_group(kind: str, group: Sequence[Measured]) -> list[dict[str, Any]]:
    attention = [one.attention for one in group]
    told = [one for one in group if not np.isnan(one.area).any()]  # an area is known in all layers or in none
    scenes, nothing = [one.asked.scene for one in told], np.full(group[0].area.shape, np.nan)
    means = {
        "share": np.mean([one.share for one in attention], axis=0),
        "effective": np.mean([one.effective for one in attention], axis=0),
        "moved": np.mean([one.moved for one in attention], axis=0),
        "rank": np.mean([[one.rank] * len(QUERIES) for one in attention], axis=0),
        "lift": np.mean([one.lift for one in told], axis=0) if told else nothing,
        "area": np.mean([one.area for one in told], axis=0) if told else nothing,
    }
    rows = []
    for (number, layer), _ in np.ndenumerate(nothing):
        areas = [one.area[number, layer] for one in told]
        low, high = (ratio_of_sums(areas, np.ones(len(told)), scenes)[1] if told else None) or (float("nan"),) * 2
        rows.append(
            {
                "kind": kind,
                "query": QUERIES[number],
                "layer": layer,
                "prompts": len(group),
                "visual": float(np.mean([one.layout.num_visual for one in attention])),
                **{name: float(values[number, layer]) for name, values in means.items()},
                "area_low": low,
                "area_high": high,
            }
        )
    return rows


def finds(row: Mapping[str, Any]) -> bool:
    """Whether attention finds objects in this layer."""
    return bool(row["area"] >= FOUND and row["area_low"] > 0.5)


def in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether attention-ranked pruning has a basis on this model, and in which layers.

    Args:
        rows: of `summary`; those of the last token over all prompts count.
    """
    own = [row for row in rows if row["query"] == "last" and row["kind"] == rows[0]["kind"]]
    least = min(own, key=lambda row: row["effective"])
    spread = (
        f"it is on {least['effective']:.0f} of {least['visual']:.0f} visual tokens or more (layer {least['layer']})"
    )
    if np.isnan(own[0]["area"]):
        return (
            "Whether attention-ranked pruning has a basis cannot be said without objects. Of the last prompt token's "
            f"attention only the concentration is known: {spread}."
        )
    run: list[Mapping[str, Any]] = []
    longest: list[Mapping[str, Any]] = []
    for row in own:
        run = [*run, row] if finds(row) else []
        longest = max(longest, run, key=len)
    if not longest:
        best = max(own, key=lambda row: row["area"])
        return (
            "Attention-ranked pruning has no basis on this model: in no layer does the last prompt token's attention "
            f"find objects (area under the ROC curve at most {best['area']:.2f}, chance is .5); {spread}."
        )
    first, last = longest[0], longest[-1]
    where = f"from layer {first['layer']} on" if last is own[-1] else f"in layers {first['layer']} to {last['layer']}"
    low, high = (end(row["area"] for row in longest) for end in (min, max))
    return (
        f"Attention-ranked pruning has a basis on this model {where} of {len(own)}: there the last prompt token's "
        f"attention finds objects (area under the ROC curve {low:.2f} to {high:.2f}, chance is .5); {spread}."
    )
