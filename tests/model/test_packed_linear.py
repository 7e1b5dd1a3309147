"""Packed weights: each product equals the plain one to rounding, and a typed refusal where they cannot be packed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from senna_prune.engine import prune
from senna_prune.errors import InputError
from senna_prune.model.checkpoint import load_senna
from senna_prune.model.packed_linear import PackedLinear, pack_linears
from senna_prune.planner.encode import EncodedFrame
from senna_prune.planner.planner import Planner, pruner_for
from senna_prune.pruning import Budget
from senna_prune.task.prompts import planning_question
from tests.replay import Recorder

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


@pytest.fixture(scope="module")
def demo() -> tuple[Planner, Planner, EncodedFrame]:
    """The demo's planner with plain and with packed weights, and a frame."""
    views = [min(folder.iterdir()) for folder in sorted((DEMO / "samples").glob("CAM_*"))]
    planners = [Planner(*load_senna(DEMO / "model", "float32", packed=packed)) for packed in (False, True)]
    return planners[0], planners[1], planners[0].encode(views, planning_question(6.0, "go straight"))


def logits_of(planner: Planner, frame: EncodedFrame) -> Tensor:
    with torch.inference_mode():
        return planner.model(input_ids=frame.input_ids[None], image_features=frame.tokens).logits


@needs_onednn
def test_unpruned_logits_agree_and_keep_all_changes_no_bit(demo: tuple[Planner, Planner, EncodedFrame]) -> None:
    plain, packed, frame = demo
    bare = logits_of(packed, frame)
    torch.testing.assert_close(bare, logits_of(plain, frame), atol=1e-3, rtol=1e-4)
    with prune(packed.model, pruner_for(packed.model, "none")):
        assert torch.equal(logits_of(packed, frame), bare)


@needs_onednn
def test_the_same_tokens_kept_give_the_same_distribution(demo: tuple[Planner, Planner, EncodedFrame]) -> None:
    """Left alone, packed weights may keep other tokens: two scores may be closer than the last bits of a product."""
    plain, packed, frame = demo
    noted = Recorder(pruner_for(plain.model, "autoprune", Budget.retention(0.5)))
    first = plain.decide(frame, noted)
    repeated = Recorder(noted.pruner, [noted], atol=1e-3)
    second = packed.decide(frame, repeated)
    assert repeated.all_repeated()
    assert first.trace.kept() == second.trace.kept()
    assert first.distribution == pytest.approx(second.distribution, abs=1e-4)


@needs_onednn
@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN multiplies no bfloat16 here")
def test_bfloat16_layers_can_be_packed() -> None:
    plain = nn.Sequential(nn.Linear(48, 80)).bfloat16()
    inputs = torch.randn(7, 48, dtype=torch.bfloat16)
    expected = plain(inputs)
    assert pack_linears(plain) == 1
    torch.testing.assert_close(plain(inputs), expected)
