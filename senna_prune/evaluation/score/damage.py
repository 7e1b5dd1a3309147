"""What pruning does to plans besides flipping them: to the distribution over the 20, and what wrong ones cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from senna_prune.evaluation.run.records import UNPRUNED
from senna_prune.evaluation.score.metrics import read_plan
from senna_prune.evaluation.score.statistics import SceneBootstrap
from senna_prune.task.answers import parse_answer
from senna_prune.task.labels import PLANS, plan_text
from senna_prune.task.plan_costs import plan_cost

LEAST = 1e-12
"""Probabilities below it count as it, so that no logarithm is infinite."""
BINS = 10
"""Of equal width, of the most probable plan's probability, for the calibration error."""
MEASURES = ("kl", "nll", "brier", "error_cost")
"""Columns of which a row's mean says something; the least is best."""
_NUMBER = {plan_text(*plan): number for number, plan in enumerate(PLANS)}


def damage_columns(table: pd.DataFrame, costs: Mapping[str, float]) -> pd.DataFrame:
    """Columns beside the decisions about plans, NaN where a decision has no distribution, or its sample no true plan.

    `kl`: Kullback-Leibler divergence of the unpruned model's distribution from the decision's, nats; it needs no true
    plan. `nll`: negative log-likelihood of the true plan, nats. `brier`: squared distance from the true plan, in
    [0, 2]. `confidence`: probability of the most probable plan; `sure`: it is the true one. `error_cost`: see
    `plan_cost`.
    """
    found = pd.DataFrame(np.nan, index=table.index, columns=[*MEASURES, "confidence", "sure"])
    pairs = pd.MultiIndex.from_arrays([table["truth"], table["answer"].fillna("")])
    codes, distinct = pd.factorize(pairs)
    priced = [
        plan_cost(parse_answer(truth), parse_answer(answer), costs) if truth.strip() else np.nan
        for truth, answer in distinct
    ]
    found["error_cost"] = np.array(priced, dtype=float)[codes]
    known = table[table["distribution"].notna()]
    if known.empty:
        return found
    given = _logarithms(known["distribution"])
    full = known[known["row"] == UNPRUNED].drop_duplicates("sample")
    if not full.empty:
        place = pd.Index(full["sample"]).get_indexer(known["sample"])
        reference = given[known.index.get_indexer(full.index)][place]
        kl = (np.exp(reference) * (reference - given)).sum(axis=1)
        found.loc[known.index, "kl"] = np.where(place >= 0, kl, np.nan)
    found.loc[known.index, "confidence"] = np.exp(given.max(axis=1))
    plans = {text: ", ".join(read_plan(text)) for text in known["truth"].unique()}
    true = known["truth"].map(plans).map(_NUMBER)
    labelled = true.notna().to_numpy()
    index, at, some = known.index[labelled], true[labelled].astype(int).to_numpy(), given[labelled]
    found.loc[index, "nll"] = -some[np.arange(len(at)), at]
    found.loc[index, "brier"] = ((np.exp(some) - np.eye(len(PLANS))[at]) ** 2).sum(axis=1)
    found.loc[index, "sure"] = (some.argmax(axis=1) == at).astype(float)
    return found


def damage_of(lines: pd.DataFrame, scenes: pd.Series, resamples: int, seed: int) -> dict[str, Any] | None:
    """A row's means over the samples, seeds averaged, with 95 % bootstrap intervals over scenes; None without a
    distribution. What cannot be told is None.

    Besides the columns' means `kl_p95`, the 95th percentile over samples, and `ece`, the expected calibration error:
    |confidence - share of right ones|, averaged over `BINS`.

    Args:
        lines: the row's, with `damage_columns`.
        scenes: scene by sample key.
        resamples, seed: of the bootstrap.
    """
    if lines["confidence"].isna().all():
        return None
    means = lines[lines["confidence"].notna()].groupby("sample")[[*MEASURES[:3]]].mean()
    bootstrap = SceneBootstrap(scenes[means.index], resamples, seed)
    known = {name: not means[name].isna().any() for name in means}
    return {
        **{name: float(means[name].mean()) if known[name] else None for name in means},
        "kl_p95": float(means["kl"].quantile(0.95)) if known["kl"] else None,
        "ece": calibration_error(lines["confidence"], lines["sure"]) if known["nll"] else None,
        **{f"{name}_interval": bootstrap.mean(means[name]) if known[name] else None for name in ("kl", "nll")},
    }


def calibration_error(confidence: pd.Series, sure: pd.Series) -> float:
    """Mean over `BINS` of confidence, weighted by their decisions, of |mean confidence - share of right ones|."""
    given = pd.DataFrame({"confidence": confidence, "sure": sure.astype(float)}).dropna()
    bins = np.minimum((given["confidence"] * BINS).astype(int), BINS - 1)
    means = given.groupby(bins).mean()
    counts = bins.value_counts().reindex(means.index)
    return float((counts * (means["confidence"] - means["sure"]).abs()).sum() / len(given))


def _logarithms(distributions: pd.Series) -> NDArray[np.float64]:
    return np.log(np.maximum(np.array(distributions.tolist(), dtype=float), LEAST))
