"""Every method on the one-image LLaVA of the goldens: kept tokens exactly, logits to 1e-4, decoding positions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from senna_prune.pruning import Budget, make_pruner
from senna_prune.pruning.methods.visionzip import contextual_merge
from tests.conftest import golden_cases
from tests.engine.tiny_llava import NUM_PATCHES, Run, Runner, example, run, run_llava, settings

pytestmark = pytest.mark.golden

LAYERS = 8
HOST = {"num_layers": LAYERS, "num_heads": 4, "num_visual": NUM_PATCHES}
ANY = Budget.retention(0.5)
both = pytest.mark.parametrize("run", [run, run_llava], ids=["decoder", "llava"])


def cases(method: str) -> Any:
    return pytest.mark.parametrize("case", golden_cases(f"{method}/e2e_*.npz"), ids=lambda path: path.stem)


def forced_tokens(stored: Any) -> list[int]:
    """Tokens to feed: all but the artificial BOS and the last."""
    return [int(token) for token in stored["generated"][0, 1:-1]] if "generated" in stored else []


def assert_close(ours: Tensor, recorded: np.ndarray) -> None:
    torch.testing.assert_close(ours, torch.from_numpy(recorded), atol=1e-4, rtol=0)


def assert_logits(result: Run, stored: Any, prefill: bool = True) -> None:
    """Logits of the last prompt tokens and of every step, and the chosen ids where no rounding decides them."""
    if prefill:
        assert_close(result.prefill[-len(stored["prefill_logits"]) :], stored["prefill_logits"])
    assert_close(result.decode, stored["decode_logits"])
    last = torch.cat([result.prefill[-1:], result.decode])
    for step, (gap, logits) in enumerate(zip(stored["top2_gap"], last, strict=True)):
        assert gap < 0.005 or int(logits.argmax()) == int(stored["generated"][0, step + 1])


def origins(recorded: np.ndarray, boundary: int) -> list[int]:
    """The reference writes merged token c of layer l as -(100 l + c + 1); our trace names the boundary behind it."""
    birth = (-recorded - 1) // 100 + 1
    assert (birth[recorded < 0] <= boundary).all()
    return np.where(recorded >= 0, recorded, -1 - birth).tolist()


@cases("autoprune")
@both
def test_autoprune(case: Path, run: Runner) -> None:
    given, stored = settings(case)
    budget = Budget.tokens(given["target_token_num"], accounting="published")
    options = {key: given[key] for key in ("k0", "gamma", "x0")}
    pruner = make_pruner("autoprune", budget, **HOST, scaling="none", **options)
    result = run(pruner, example(given["sample"], given["pad_mask"]), forced_tokens(stored))
    trace = result.trace
    assert trace.origins[1].tolist() == stored["kept_layer0"].tolist()
    for layer in range(1, LAYERS - 1):
        assert trace.origins[layer + 1].tolist() == origins(stored[f"origin_layer{layer}"], layer + 1)
    assert list(trace.after) == stored["visual_counts_after_layer"].tolist()
    assert trace.counts.merged[1:] == tuple(stored["cluster_counts"])
    assert trace.complexity == pytest.approx(float(stored["mi_layer1"]), abs=1e-4)
    # The reference carries out the cut behind the last layer too; nothing but these rows shows it.
    pre, post, current = given["pre"], given["post"], trace.entering[-1]
    kept = torch.from_numpy(stored[f"kept_local_layer{LAYERS - 1}"]).long() + pre
    rows = torch.cat([torch.arange(pre), kept, torch.arange(pre + current, pre + current + post)])
    recorded = stored["prefill_logits"]
    if len(recorded) >= len(rows):  # all rows were recorded, not the last ones alone
        recorded = np.concatenate([recorded[: pre + len(kept)], recorded[-post:]])
    assert_close(result.prefill[rows][-len(recorded) :], recorded)
    assert_logits(result, stored, prefill=False)
    assert result.cache_lengths[1:].tolist() == stored["decode_cache_len_after"].tolist()


@cases("pyramiddrop")
@both
def test_pyramiddrop(case: Path, run: Runner) -> None:
    given, stored = settings(case)
    stages, ratios = tuple(given["layer_list"]), tuple(given["image_token_ratio_list"])
    pruner = make_pruner("pyramiddrop", ANY, **HOST, stages=stages, ratios=ratios)
    result = run(pruner, example(given["sample"]), forced_tokens(stored))
    for stage, boundary in enumerate(stages):
        assert result.trace.origins[boundary].tolist() == stored[f"kept_origin_stage{stage}"].tolist()
    assert_logits(result, stored)
    # A layer's position is its own cache length before the step.
    assert result.cache_lengths[:-1].tolist() == stored["decode_position_ids"].tolist()


@cases("sparsevlm")
@both
def test_sparsevlm(case: Path, run: Runner) -> None:
    given, stored = settings(case)
    options: dict[str, Any] = {"layers": tuple(given["pruning_loc"]), "counts": tuple(given["sparse_token_list"])}
    if given["version"].startswith("1"):
        pruner = make_pruner("sparsevlm", ANY, **HOST, **options)
    else:
        pruner = make_pruner("sparsevlm_v2", ANY, **HOST, **options, heads=given["heads_selected_v2"])
    result = run(pruner, example(given["sample"]), forced_tokens(stored))
    for layer in (layer for layer in given["pruning_loc"] if layer < LAYERS - 1):
        assert result.trace.origins[layer + 1].tolist() == origins(stored[f"origin_layer{layer}"], layer + 1)
    assert_logits(result, stored)
    assert result.cache_lengths[:-1].tolist() == stored["decode_cache_len_after"][:-1].tolist()


@cases("fastv")
@both
def test_fastv(case: Path, run: Runner) -> None:
    given, stored = settings(case)
    sample = example(given["sample"])
    result = run(make_pruner("fastv", ANY, **HOST, layer=given["K"], count=given["kept"]), sample, [])
    assert result.trace.origins[given["K"]].tolist() == stored["kept"].tolist()
    # The masking variant keeps every row; text rows behind the image see the same tokens either way.
    behind = len(sample.ids) - int((sample.ids < 0).nonzero()[0, 0]) - 1
    rows = min(40, behind, len(stored["prefill_logits"]))
    assert_close(result.prefill[-rows:], stored["prefill_logits"][-rows:])
    assert stored["top2_gap"][0] < 0.005 or int(result.prefill[-1].argmax()) == stored["generated_no_kv_cache"][0]


@cases("fastervlm")
@both
def test_fastervlm(case: Path, run: Runner) -> None:
    given, stored = settings(case)
    sample = example(given["sample"])
    torch.testing.assert_close(sample.vision.score, torch.from_numpy(stored["cls_attention"]), atol=1e-6, rtol=0)
    pruner = make_pruner("fastervlm", Budget.tokens(given["visual_token_num"]), **HOST)
    result = run(pruner, sample, forced_tokens(stored))
    assert result.trace.origins[0].tolist() == stored["kept"].tolist()
    assert_logits(result, stored)


@cases("visionzip")
def test_visionzip_before_the_projector(case: Path) -> None:
    given, stored = settings(case)
    sample = example(given["sample"])
    top = sample.vision.score.topk(given["dominant_num"]).indices + 1
    keep = torch.cat([torch.zeros(1, dtype=torch.long), top]).sort().values
    assert keep.tolist() == stored["kept_indices_incl_cls0"].tolist()
    assert sample.vision.keys is not None
    metric = torch.from_numpy(stored["metric"])
    torch.testing.assert_close(sample.vision.keys, metric[1:], atol=1e-5, rtol=0)
    contextual, _ = contextual_merge(sample.features, metric, keep, given["contextual"])
    zipped = torch.cat([sample.features[keep], contextual])
    torch.testing.assert_close(zipped, torch.from_numpy(stored["features"]), atol=1e-5, rtol=0)
    # `run` leaves out the first feature, which is the class token everywhere else.
    shorter = replace(sample, features=torch.cat([zipped[:1], zipped]))
    assert_logits(run(make_pruner("none", ANY, **HOST), shorter, forced_tokens(stored)), stored)
