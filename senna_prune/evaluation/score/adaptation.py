"""Whether a method's schedule follows the sample: complexities, slopes, how many are clamped, how schedules differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, get_args

import numpy as np

from senna_prune.evaluation.run.controls import control_of
from senna_prune.evaluation.run.records import Condition, Trace
from senna_prune.pruning.curve_shapes import Slope, dynamic_slope

MEASURES = {"mutual_information": "mutual information", "mean_attention": "mean attention", "cosine": "cosine"}
MOST_CLAMPED = 0.2
"""Share of clamped samples above which a warning stands beside the table."""
LEAST_SLOPES = 0.1
"""Range of the samples' slopes, as a share of k0, below which there is one too."""


def adaptation(condition: Condition, traces: Sequence[Trace]) -> dict[str, Any] | None:
    """Diagnostics of one row as plain JSON values, None for a row whose schedule does not depend on the sample.

    Args:
        condition: the row's; its resolved options give AutoPrune's slope (Eq. 8), other methods have none.
        traces: one per decision.

    Returns:
        `measure`: what complexity is, in words. `complexity`: minimum, three quartiles, maximum. `slope`: least and
        greatest, `clamped`: share of samples whose slope is 0 (each None without a slope). `spread`: mean absolute
        difference of the tokens entering a layer, over layers and pairs of samples. `warning`: why the method does not
        adapt, if it does not.
    """
    values = [trace.complexity for trace in traces if trace.complexity is not None]
    if not values or control_of(condition):
        return None
    indicator = condition.resolved.get("indicator")
    measure = MEASURES.get(indicator, "complexity") if isinstance(indicator, str) else "complexity"
    found: dict[str, Any] = {
        "measure": f"calibrated {measure}" if condition.resolved.get("quantiles") else measure,
        "complexity": [float(value) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])],
        "slope": None,
        "clamped": None,
        "spread": spread([trace.entering for trace in traces if trace.complexity is not None]),
        "warning": None,
    }
    k0, gamma, mode = (condition.resolved.get(name) for name in ("k0", "gamma", "slope"))
    if isinstance(k0, int | float) and isinstance(gamma, int | float) and mode in get_args(Slope):
        slopes = [dynamic_slope(value, k0, gamma, cast(Slope, mode)) for value in values]
        found |= {"slope": [min(slopes), max(slopes)], "clamped": sum(slope == 0 for slope in slopes) / len(slopes)}
        if found["clamped"] > MOST_CLAMPED:
            found["warning"] = (
                f"{100 * found['clamped']:.0f} % of the samples have the same flat curve, because their "
                f"{found['measure']} (median {found['complexity'][2]:.3g}) makes the slope {k0:g} - {gamma:g} I "
                "negative, and it is clamped to 0"
            )
        elif len(slopes) > 1 and max(slopes) - min(slopes) < LEAST_SLOPES * abs(k0):
            low, high = found["complexity"][0], found["complexity"][-1]
            found["warning"] = (
                f"the slope hardly differs between samples, {min(slopes):.3f} to {max(slopes):.3f}, because their "
                f"{found['measure']} lies between {low:.3g} and {high:.3g}: this is nearly a static method"
            )
    return found


def spread(schedules: Sequence[Sequence[int]]) -> float:
    """Mean absolute difference of two samples' tokens in a layer, over all layers and all pairs of samples.

    Args:
        schedules: tokens entering each layer, one row per sample, shape (samples, L).

    Returns:
        Tokens; 0 for fewer than two samples.
    """
    count = len(schedules)
    if count < 2:
        return 0.0
    # In ascending order, value k is added by the k values below it and subtracted by those above.
    weights = 2 * np.arange(count) - count + 1
    ascending = np.sort(np.array(schedules), axis=0)
    return float(np.mean(weights @ ascending) / (count * (count - 1) / 2))
