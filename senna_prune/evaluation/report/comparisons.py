"""Every comparison of a table as text: its difference, its interval and what it could have detected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from senna_prune.evaluation.report.table import hundredths, markdown_table
from senna_prune.evaluation.score.statistics import POWER

NARROW = ("method", "against", "difference [95 %]", "could detect", "supported")
FULL = (*NARROW[:-1], "only this right", "only the other right", "exact p", "Holm p", "supported")
CAPTION = (
    "Differences in points (percent of the samples). Could detect: the smallest true difference that this comparison "
    f"finds in {100 * POWER:.0f} % of all runs, on its own, paired and clustered by scene; a smaller one that is not "
    "supported may still be there."
)


def comparison_rows(group: Mapping[str, Any]) -> list[dict[str, str]]:
    """Cells of `FULL` for every comparison of one of `results["groups"]`."""
    return [
        {
            "method": row["row"],
            "against": comparison["to"],
            "difference [95 %]": signed_with_interval(comparison),
            "could detect": hundredths(comparison["detectable"]),
            "only this right": str(comparison["only_this"]),
            "only the other right": str(comparison["only_other"]),
            "exact p": f"{comparison['p']:.3g}",
            "Holm p": f"{comparison['p_holm']:.3g}",
            "supported": "yes" if comparison["supported"] else "no",
        }
        for row in group["rows"]
        for comparison in row["comparisons"]
    ]


def comparison_markdown(group: Mapping[str, Any]) -> list[str]:
    """The table; nothing where nothing is compared."""
    rows = comparison_rows(group)
    return ["## Every comparison\n", f"{CAPTION}\n", markdown_table(rows, FULL)] if rows else []


def signed_with_interval(comparison: Mapping[str, Any]) -> str:
    """`-12.3 [-18.0, -6.5]`, in points."""
    bounds = comparison["difference_interval"]
    text = f"{100 * comparison['difference']:+.1f}"
    return f"{text} [{100 * bounds[0]:+.1f}, {100 * bounds[1]:+.1f}]" if bounds else text
