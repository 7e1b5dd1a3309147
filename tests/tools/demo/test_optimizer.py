"""Optimizer, and the step from a shallow decoder to a deep one."""

from __future__ import annotations

from dataclasses import replace

import torch

from tests.tools.demo.tiny import TINY
from tools.demo.training.driver import new_driver
from tools.demo.training.growth import deepen
from tools.demo.training.optimizer import MasterOptimizer


def test_optimizer_keeps_steps_that_bfloat16_would_lose() -> None:
    weight = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = MasterOptimizer(
        [([weight], 1e-4)], [], total_steps=1000, warm_up=1, clip=1.0, betas=(0.9, 0.98), weight_decay=0.0
    )
    for _ in range(60):
        optimizer.step([[torch.ones_like(weight)], [torch.ones_like(weight)]])
    # 1 - 1e-4 rounds to 1 in bfloat16: without the float32 copy the weight would never move.
    assert float(weight.detach()[0]) < 0.998


def test_muon_moves_every_direction_of_a_matrix_alike() -> None:
    torch.manual_seed(0)
    matrix, vector = torch.nn.Parameter(torch.zeros(6, 4)), torch.nn.Parameter(torch.zeros(4))
    optimizer = MasterOptimizer(
        [([matrix, vector], 1e-2)], [matrix], total_steps=10, warm_up=1, clip=1e9, betas=(0.9, 0.98), weight_decay=0.0
    )
    strong_and_weak = torch.linalg.qr(torch.randn(6, 4)).Q * torch.tensor([1.0, 0.5, 0.1, 0.05])
    optimizer.step([[strong_and_weak, torch.ones(4)]])
    directions = torch.linalg.svdvals(matrix.detach())
    assert float(directions.max() / directions.min()) < 2  # the gradient's differ by a factor of 20
    torch.testing.assert_close(vector.detach(), torch.full((4,), -1e-2))  # AdamW's first step
    again = MasterOptimizer(
        [([matrix, vector], 1e-2)], [matrix], total_steps=10, warm_up=1, clip=1e9, betas=(0.9, 0.98), weight_decay=0.0
    )
    again.load_tensors(optimizer.tensors())
    assert again.tensors().keys() == optimizer.tensors().keys()
    for name, tensor in optimizer.tensors().items():
        torch.testing.assert_close(again.tensors()[name], tensor, atol=0, rtol=0, msg=name)


@torch.no_grad()
def test_a_deepened_decoder_answers_like_the_shallow_one() -> None:
    """Each layer's movement in three steps: nearly the same where a layer moves little, and every layer takes part."""
    model, _ = new_driver(replace(TINY, layers=2, first_layers=2), torch.float32)
    deep = deepen(model, 6)
    assert deep.config.text_config.num_hidden_layers == 6
    assert model.config.text_config.num_hidden_layers == 2
    embeds = torch.randn(1, 5, TINY.width)
    shallow_out = model.model.language_model(inputs_embeds=embeds).last_hidden_state
    deep_out = deep.model.language_model(inputs_embeds=embeds).last_hidden_state
    assert float((deep_out - shallow_out).abs().mean()) < 0.02 * float(shallow_out.abs().mean())
    assert float((deep_out - shallow_out).abs().max()) > 0
    one, two = (layers.language_model.layers for layers in (model.model, deep.model))
    torch.testing.assert_close(two[5].mlp.down_proj.weight * 3, one[1].mlp.down_proj.weight)
    torch.testing.assert_close(two[3].self_attn.q_proj.weight, one[1].self_attn.q_proj.weight, atol=0, rtol=0)
