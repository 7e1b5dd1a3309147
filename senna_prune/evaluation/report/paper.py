"""The ratios that the paper published, shown beside measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from senna_prune.cost import ModelShape
from senna_prune.evaluation.report.table import Table, hundredths, with_interval
from senna_prune.evaluation.run.records import UNPRUNED
from senna_prune.evaluation.score.statistics import POWER, detectable_of

TABLE3: dict[str, dict[float, float]] = {
    "fastervlm": {0.2: 0.5505, 0.25: 0.5281, 0.3: 0.4719, 0.35: 0.4550, 0.4: 0.4943},
    "sparsevlm": {0.2: 0.8429, 0.25: 0.9383, 0.3: 0.9552, 0.35: 0.9776, 0.4: 1.0113},
    "pyramiddrop": {0.2: 0.9494, 0.25: 0.9889, 0.3: 0.9607, 0.35: 0.9829, 0.4: 1.0055},
    "autoprune": {0.2: 0.9663, 0.25: 1.1123, 0.3: 1.0675, 0.35: 1.0506, 0.4: 1.0451},
}
"""AutoPrune paper, Table 3: planning accuracy relative to the unpruned model, by method and retention."""
RIGHT = 178
"""Plans that the unpruned model got right in Table 3: every published ratio is a multiple of 1/178."""
SIZES = (300, 500, 955)
"""How many samples Table 3 may rest on, which the paper does not say: at least 198, as its largest ratio is 198/178."""
SENNA = (32, 6, 128)
"""Decoder layers, views and visual tokens per view of the model in the paper."""
PAPER_NOTE = (
    "Ratio to unpruned in %, here and as published (AutoPrune paper, Table 3: the released Senna, no intervals). Each "
    f"published ratio is a multiple of 1/{RIGHT}, so the unpruned model had {RIGHT} plans right, of at least 198. "
    f"Published could detect: the smallest difference from 100 % that {', '.join(map(str, SIZES))} paired samples, "
    f"{RIGHT} of them right unpruned, find in {100 * POWER:.0f} % of all runs, if as large a share of them changes "
    "between right and wrong as here. The weights and the samples may be others than the paper's."
)


def beside_the_paper(group: Mapping[str, Any], shape: ModelShape) -> Table:
    """Rows of a results group that the paper also has.

    Empty if there are none, and for a model of another shape than Senna-7B's or samples outside nuScenes val: a
    published number beside them would mislead.
    """
    rows = []
    if group["nuscenes_val"] and group["labelled"] and (shape.layers, shape.views, shape.view_tokens) == SENNA:
        for row in group["rows"]:
            published = TABLE3.get(row["method"], {}).get(row["retention"] or 0.0)
            if published is not None:
                changed = next(c for c in row["comparisons"] if c["kind"] == UNPRUNED)
                discordant = (changed["only_this"] + changed["only_other"]) / group["samples"]
                rows.append(
                    {
                        "method": row["label"],
                        "retention %": f"{100 * row['retention']:g}",
                        "ratio % here [95 %]": with_interval(row["ratio"], row["ratio_interval"]),
                        "ratio % published": hundredths(published, 2),
                        "published could detect": " / ".join(_could_detect(size, discordant) for size in SIZES),
                    }
                )
    return Table.of("Beside the paper", rows, PAPER_NOTE)


def _could_detect(samples: int, discordant: float) -> str:
    """In percent of the unpruned model's right plans."""
    least = detectable_of(samples, discordant)
    return hundredths(None if least is None else least * samples / RIGHT)
