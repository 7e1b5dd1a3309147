"""What the HTML page shows of kinds of questions, of circumstances, and of failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from senna_prune.evaluation.report import plots
from senna_prune.evaluation.report.breakdown_tables import NOTE, breakdowns
from senna_prune.evaluation.report.gallery import Failures, failure_rows
from senna_prune.evaluation.report.kind_tables import TITLE, cameras, counts, details, kinds_of, notes, overview


def scene_page(
    results: Mapping[str, Any],
    timing: Mapping[str, Any],
    by_kind: Sequence[Sequence[plots.Plot]],
    lost: Failures,
) -> dict[str, Any]:
    """Variables of the templates `kinds`, `breakdowns` and `failures`.

    Args:
        results, timing: `results.json` and `timing.json`.
        by_kind: plots of every group of `results["kinds"]`.
        lost: what pruning loses.
    """
    return {
        "kinds": [
            {
                "title": f"{TITLE}, convention {group['convention']}",
                "counts": counts(group),
                "overview": overview(group),
                "details": [(kind, details(group, kind, timing)) for kind in kinds_of(group)],
                "cameras": cameras(group),
                "notes": notes(group),
                "plots": [(plot, Markup(plots.to_svg(plot.figure, plot.title))) for plot in figures],
            }
            for group, figures in zip(results.get("kinds", []), by_kind, strict=True)
        ],
        "breakdowns": breakdowns(results),
        "breakdown_note": NOTE,
        "failures": failure_rows(lost.counts),
    }
