"""AutoPrune's schedule, mutual information and clustering against the released code's numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from senna_prune.pruning.clusters import cluster_and_merge
from senna_prune.pruning.curve_shapes import curve, dynamic_slope
from senna_prune.pruning.methods.autoprune import CAP, PLATEAU, mutual_information, released_keep_percent, simulate
from tests.conftest import golden_cases

pytestmark = pytest.mark.golden


def cases(pattern: str) -> Any:
    return pytest.mark.parametrize("case", golden_cases(pattern), ids=lambda path: path.stem)


def numbered(stored: Any, name: str) -> list[int]:
    """Numbers i for which `name_i` is stored."""
    return sorted(int(key.removeprefix(f"{name}_")) for key in stored.files if key.startswith(f"{name}_"))


@cases("autoprune/*schedule*_index.json")
def test_schedule_counts_on_every_row(case: Path) -> None:
    index = json.loads(case.read_text())
    stored = np.load(case.with_name(case.name.replace("_index.json", ".npz")))
    assert index["rows"]
    for number, values in enumerate(index["rows"]):
        row = dict(zip(index["columns"], values, strict=True))
        layers, target, total = row["L"], row["target"], row["ori_token_num"]
        shape = [PLATEAU * curve("logistic", layer, row["k"], row["x0_eff"]) for layer in range(1, layers)]
        first = min(int(CAP * target), total)
        percent = released_keep_percent(shape, first, target, total)
        np.testing.assert_allclose(percent, stored["keep_percent"][number][: layers - 1], rtol=1e-12)
        plan = simulate(first, [math.ceil((first - 1) * value) for value in percent], total)
        assert plan.tokens[1:] == tuple(stored["counts"][number][:layers]), row
        assert plan.merged[1:] == tuple(stored["clusters"][number][:layers]), row
        assert plan.after == pytest.approx(row["actual_mean"])


@cases("autoprune/dynamic_k*.json")
def test_slope(case: Path) -> None:
    for row in json.loads(case.read_text()):
        ours = {
            "linear": dynamic_slope(row["mi"], 0.4, 0.2),
            "linear_discrete": dynamic_slope(row["mi"], 0.4, 0.2, "linear_discrete"),
            "logistic": dynamic_slope(row["mi"], 0.4, 0.2, "logistic"),
            "linear_k1_g05": dynamic_slope(row["mi"], 1.0, 0.5),
        }
        assert ours == pytest.approx({key: row[key] for key in ours}, abs=1e-12)


@cases("autoprune/mutual_information*.npz")
def test_mutual_information(case: Path) -> None:
    stored = np.load(case)
    for i in numbered(stored, "attn"):
        ours = mutual_information(torch.from_numpy(stored[f"attn_{i}"]))
        np.testing.assert_allclose(ours.numpy(), stored[f"mi_per_head_{i}"], atol=1e-5)
        assert float(ours.sum()) == pytest.approx(float(stored[f"mi_sum_{i}"]), rel=1e-6, abs=1e-7)


@cases("autoprune/cluster_and_merge*.npz")
def test_clustering(case: Path) -> None:
    stored = np.load(case)
    for i in numbered(stored, "x"):
        tokens, clusters = torch.from_numpy(stored[f"x_{i}"])[0], int(stored[f"k_{i}"])
        for noise, name in ((None, "ramp"), (torch.zeros(len(tokens)), "zero")):
            means, centres = cluster_and_merge(tokens, clusters, noise)
            np.testing.assert_allclose(means.numpy(), stored[f"y_{name}_{i}"][0], atol=1e-5)
            assert len(set(centres.tolist())) == clusters
