"""What pruning does to the distribution over the 20 plans: it shows damage before an answer flips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from senna_prune.evaluation.run.records import UNPRUNED
from senna_prune.evaluation.score.metrics import read_plan
from senna_prune.evaluation.score.statistics import SceneBootstrap
from senna_prune.task.labels import PLANS, plan_text

LEAST = 1e-12
"""Probabilities below it count as it, so that no logarithm is infinite."""
_NUMBER = {plan_text(*plan): number for number, plan in enumerate(PLANS)}


def distribution_scores(table: pd.DataFrame, scenes: pd.Series, resamples: int, seed: int) -> dict[str, dict[str, Any]]:
    """Row -> its scores, of the rows whose readout gives a distribution, over the decisions that have one.

    `kl`: mean Kullback-Leibler divergence of the unpruned model's distribution from the row's, nats; it needs no true
    plan. `kl_p95`: its 95th percentile. `nll`: negative log-likelihood of the true plan, nats. `brier`: squared
    distance from the true plan, in [0, 2]. `kl_interval`, `nll_interval`: 95 %, bootstrap over scenes.

    Args:
        table: of `Questions` about plans; seeds are averaged per sample.
        scenes: scene by sample key.
        resamples, seed: of the bootstrap.
    """
    known = table[table["distribution"].notna()]
    if known.empty:
        return {}
    given = _logarithms(known["distribution"])
    true = known["truth"].map(lambda text: _NUMBER[", ".join(read_plan(text))]).to_numpy()
    full = known.loc[known["row"] == UNPRUNED].set_index("sample")["distribution"]
    with_full = known["sample"].isin(full.index).to_numpy()
    kl = np.full(len(known), np.nan)
    if with_full.any():
        reference = _logarithms(known["sample"][with_full].map(full))
        kl[with_full] = (np.exp(reference) * (reference - given[with_full])).sum(axis=1)
    nll = -given[np.arange(len(known)), true]
    brier = ((np.exp(given) - np.eye(len(PLANS))[true]) ** 2).sum(axis=1)
    scored = known[["sample", "row"]].assign(kl=kl, nll=nll, brier=brier)
    found = {}
    for row, lines in scored.groupby("row", sort=False):
        means = lines.groupby("sample")[["kl", "nll", "brier"]].mean()
        bootstrap = SceneBootstrap(scenes[means.index], resamples, seed)
        found[str(row)] = {
            **{name: None if means[name].isna().any() else float(means[name].mean()) for name in means},
            "kl_p95": None if means["kl"].isna().any() else float(means["kl"].quantile(0.95)),
            **{
                f"{name}_interval": None if means[name].isna().any() else bootstrap.mean(means[name])
                for name in ("kl", "nll")
            },
        }
    return found


def _logarithms(distributions: pd.Series) -> NDArray[np.float64]:
    return np.log(np.maximum(np.array(distributions.tolist(), dtype=float), LEAST))
