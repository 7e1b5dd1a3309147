"""Packed weights: the same numbers to rounding, the same pruning, and a typed refusal where they cannot be packed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from senna_prune.engine import prune
from senna_prune.errors import InputError
from senna_prune.model.checkpoint import load_senna
from senna_prune.model.packed_linear import PackedLinear, pack_linears
from senna_prune.planner.planner import Planner, pruner_for
from senna_prune.pruning import Budget
from senna_prune.task.prompts import planning_prompt, planning_question

DEMO = Path(__file__).parents[2] / "data/demo"

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN, so nothing can be packed"
)


@needs_onednn
def test_a_packed_layer_multiplies_like_the_plain_one() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(48, 80), nn.GELU(), nn.Linear(80, 24, bias=False))
    inputs = torch.randn(2, 7, 48)
    expected = plain(inputs)
    assert pack_linears(plain) == 2
    assert all(isinstance(plain[i], PackedLinear) for i in (0, 2))
    result = plain(inputs)
    assert not result.requires_grad
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain(inputs[:, ::2]), expected[:, ::2], rtol=1e-5, atol=1e-5)


@needs_onednn
def test_spared_modules_stay_plain() -> None:
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Sequential(nn.Linear(4, 4))})
    assert pack_linears(model, model["b"]) == 1
    assert isinstance(model["b"][0], nn.Linear)  # type: ignore[index]


def test_what_cannot_be_packed_is_refused_and_nothing_changes() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).double())
    with pytest.raises(InputError, match=r"float64 on cpu cannot be packed"):
        pack_linears(model)
    assert all(type(layer) is nn.Linear for layer in model)


@needs_onednn
def test_a_packed_model_plans_as_the_plain_one_and_keep_all_changes_no_bit() -> None:
    question = planning_question(6.0, "go straight")
    views = [min(folder.iterdir()) for folder in sorted((DEMO / "samples").glob("CAM_*"))]
    plans = []
    for packed in (False, True):
        model, processor = load_senna(DEMO / "model", packed=packed)
        planner = Planner(model, processor, pruner_for(model, "autoprune", Budget.retention(0.5)))
        plans.append(planner.decide(planner.encode(views, question)))
    assert plans[0].text == plans[1].text
    assert plans[0].trace.kept() == plans[1].trace.kept()
    assert plans[0].distribution == pytest.approx(plans[1].distribution, abs=1e-4)
    frame = planner.encode(views, question)
    inputs = {"input_ids": processor.encode_prompt(planning_prompt(question))[None]}
    inputs["image_features"] = frame.features.tokens
    with torch.inference_mode():
        bare = model(**inputs).logits
        with prune(model, pruner_for(model, "none")):
            assert torch.equal(model(**inputs).logits, bare)
