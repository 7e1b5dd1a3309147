"""Cost against the published formula, against hand-computed numbers and against what a real model holds."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from senna_prune import cost
from senna_prune.cost import DecoderCost, ModelShape, decision_flops, decoder_flops, kv_bytes

# Views, patches and values of one; the tower's width, MLP and layers; tokens per view; the decoder's width, MLP,
# layers, vocabulary, widths of queries and keys; bytes of a cached number.
SENNA = ModelShape(6, 576, 588, 1024, 4096, 23, 128, 4096, 11008, 32, 32000, 4096, 4096, 2)
TINY = ModelShape(1, 2, 3, 2, 4, 1, 1, 2, 3, 1, 5, 2, 2, 4)


def test_decoder_is_twice_the_published_formula() -> None:
    n, d, m = 271 + 768, 4096, 11008
    published = 32 * (4 * n * d * d + 2 * n * n * d + 3 * n * d * m)
    assert decoder_flops(SENNA, [768] * 32, text=271) == 2 * published


def test_agrees_with_the_budgets_arithmetic() -> None:
    entering = [768] * 2 + [300] * 10 + [64] * 20
    budget = DecoderCost(hidden=4096, intermediate=11008, text=271)
    assert decoder_flops(SENNA, entering, 271) == pytest.approx(sum(map(budget.layer, entering)), rel=1e-12)


def test_the_budget_counts_grouped_queries_as_the_report_does() -> None:
    grouped = replace(SENNA, key_width=1024)
    budget = grouped.decoder_cost(text=271)
    assert budget == DecoderCost(4096, 11008, 271, query_width=4096, key_width=1024)
    assert decoder_flops(grouped, [768, 100], 271) == budget.layer(768) + budget.layer(100)
    assert budget.layer(768) < DecoderCost(4096, 11008, 271).layer(768)


def test_by_hand() -> None:
    # Patches: 2 * 3 * 2 = 12. Tower: 3 tokens of width 2: 4*3*4 + 2*9*2 + 2*3*2*4 = 48 + 36 + 48 = 132.
    assert cost.vision_flops(TINY) == 2 * (12 + 132)
    # Projector: 2 * (2*2 + 2*2) = 16. Adapter: 2 * (2*1 + 1 + 1) = 8.
    assert cost.projection_flops(TINY) == 2 * (16 + 8)
    # Three tokens: 4*3*4 + 2*9*2 + 3*3*2*3 = 48 + 36 + 54 = 138.
    assert decoder_flops(TINY, [1], text=2) == 2 * 138
    # Causal: 1 + 2 + 3 pairs instead of 9: 4*3*4 + 2*6*2 + 3*3*2*3 = 48 + 24 + 54 = 126.
    assert decoder_flops(TINY, [1], text=2, causal=True) == 2 * 126
    # Two positions behind three cached tokens: projections 4*2*4 = 32, attention 2*2*(4+5) = 36, MLP 3*2*2*3 = 36;
    # head on three tokens: 3*2*5 = 30.
    assert cost.readout_flops(TINY, [1], text=2, positions=2) == 2 * (32 + 36 + 36 + 30)
    assert kv_bytes(TINY, [1], text=2) == 2 * 3 * 2 * 4


def test_senna_7b_magnitudes() -> None:
    flops = decision_flops(SENNA, [768] * 32, text=271, positions=9)
    # About 6.7 G weights x 2 x 1039 tokens, and the quadratic part.
    assert flops.decoder == pytest.approx(2 * 6.476e9 * 1039, rel=0.06)
    assert kv_bytes(SENNA, [768] * 32, 271) == 2 * 32 * 1039 * 4096 * 2
    assert flops.total == flops.vision + flops.projection + flops.decoder + flops.readout


def test_grouped_queries_shrink_the_cache() -> None:
    grouped = replace(SENNA, key_width=1024)
    assert kv_bytes(grouped, [768] * 32, 271) * 4 == kv_bytes(SENNA, [768] * 32, 271)
    assert decoder_flops(grouped, [768], 271) < decoder_flops(SENNA, [768], 271)


def test_blind_looks_at_nothing() -> None:
    flops = decision_flops(SENNA, [0] * 32, text=271, positions=9)
    assert flops.vision == flops.projection == 0
    assert flops.decoder == decoder_flops(SENNA, [0] * 32, 271)
