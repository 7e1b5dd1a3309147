"""Scores, indicators and merges against numbers computed another way."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from senna_prune.pruning.base import LAST_ATTENTION, NEXT_ATTENTION, ROPE_PRODUCT, TEXT_ATTENTION
from senna_prune.pruning.clusters import cluster_and_merge, merge_clusters
from senna_prune.pruning.complexities import mutual_information, printed_mutual_information
from senna_prune.pruning.methods.visionzip import contextual_merge
from tests.pruning.scenes import pruner, scene


def released_loop(attention: Tensor) -> list[float]:
    """The released formula, head by head and cell by cell."""
    heads, queries, columns = attention.shape
    values = []
    for h in range(heads):
        total = 0.0
        for v in range(columns):
            marginal = sum(float(attention[h, q, v]) / queries for q in range(queries))
            for q in range(queries):
                p = float(attention[h, q, v]) / queries
                total += p * math.log2(max(p / (marginal / queries + 1e-6), 1e-6))
        values.append(total)
    return values


def test_mutual_information_cell_by_cell() -> None:
    attention = torch.rand(3, 4, 6).softmax(-1)
    assert mutual_information(attention).tolist() == pytest.approx(released_loop(attention), abs=1e-5)


def test_printed_mutual_information_of_known_distributions() -> None:
    identity = torch.eye(4)[None] * 0.3  # rows need not be normalised: a third of the mass is on vision
    assert printed_mutual_information(identity).item() == pytest.approx(math.log(4))
    assert printed_mutual_information(torch.full((1, 5, 8), 0.01)).item() == pytest.approx(0, abs=1e-6)


def test_indicators_of_table_4() -> None:
    seen = scene([10, 10])
    assert seen.text_embeddings is not None and seen.visual_embeddings is not None
    mass = pruner("autoprune", 0.3, indicator="mean_attention").complexity(seen)
    assert mass.item() == pytest.approx(seen.attention.sum(-1).mean().item())
    pairs = torch.cosine_similarity(seen.text_embeddings[:, None], seen.visual_embeddings[None], dim=-1)
    cosine = pruner("autoprune", 0.3, indicator="cosine").complexity(seen)
    assert cosine.item() == pytest.approx(pairs.mean().item(), abs=1e-6)
    assert pruner("autoprune", 0.3, indicator="static").measured_layer is None


@pytest.mark.parametrize("indicator", ["mutual_information", "mean_attention", "cosine"])
@pytest.mark.parametrize("variant", ["released", "paper"])
def test_indicators_declare_what_they_need(indicator: str, variant: str) -> None:
    policy = pruner("autoprune", 0.3, indicator=indicator, variant=variant)
    assert policy.measured_layer == 1
    assert ("embeddings" in policy.needs) == (indicator == "cosine")


def test_layer_0_score_of_autoprune() -> None:
    seen = scene([8, 8], layer=1)
    assert seen.vision is not None
    weight = sum(released_loop(seen.attention)) / seen.attention.shape[1]
    expected = 0.3 * weight * seen.attention.mean((0, 1)) + seen.vision.score
    torch.testing.assert_close(pruner("autoprune", 0.3, heads=32).score(seen), expected, atol=1e-6, rtol=1e-4)
    later = scene([8, 8], layer=2)
    torch.testing.assert_close(pruner("autoprune", 0.3, heads=32).score(later), seen.attention.mean((0, 1)))


def test_merged_tokens_have_no_vision_score() -> None:
    seen = scene([3])
    seen = replace(seen, origin=torch.tensor([2, -2, 0]))
    assert seen.vision is not None
    kept = pruner("fastervlm", 0.5).score(seen)
    assert kept.tolist() == pytest.approx([seen.vision.score[2].item(), 0.0, seen.vision.score[0].item()])


def test_raters_are_the_text_tokens_the_image_points_at() -> None:
    seen = scene([6], queries=3)
    text = torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    seen = replace(seen, text_embeddings=text, visual_embeddings=torch.tensor([[0.0, 9]] * 6))
    torch.testing.assert_close(pruner("sparsevlm", 0.5).score(seen), seen.attention.mean(0)[1])


def test_a_single_text_token_rates() -> None:
    seen = scene([6], queries=1)
    torch.testing.assert_close(pruner("sparsevlm", 0.5).score(seen), seen.attention.mean(0)[0])


def test_rope_product_is_asked_for_by_version_2_only() -> None:
    assert ROPE_PRODUCT in pruner("sparsevlm_v2", 0.5).needs
    assert ROPE_PRODUCT not in pruner("sparsevlm", 0.5).needs
    assert pruner("fastv", 0.5).needs == {LAST_ATTENTION}
    assert pruner("pyramiddrop", 0.5).needs == {NEXT_ATTENTION}
    assert TEXT_ATTENTION in pruner("autoprune", 0.5).needs


def test_uniform_tokens_are_spread_evenly() -> None:
    for count in (10, 77, 192, 500):
        kept = pruner("uniform", 0.5).score(scene([768])).topk(count).indices.sort().values
        gaps = kept.diff()
        assert gaps.max() <= 3 * 768 / count
        assert gaps.unique().numel() <= 3


def test_random_tokens_depend_on_the_seed_alone() -> None:
    seen = scene([768])
    first, second = (pruner("random", 0.5, seed=seed).score(seen) for seed in (0, 1))
    assert torch.equal(first, pruner("random", 0.2).score(seen))
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.1
    assert first.min() >= 0
    assert first.max() <= 1
    assert first.mean().item() == pytest.approx(0.5, abs=0.04)
    assert abs(torch.corrcoef(torch.stack([first[1:], first[:-1]]))[0, 1]) < 0.1


def test_clusters_of_separate_groups_are_their_means() -> None:
    groups = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]).repeat_interleave(5, 0)
    tokens = groups + 0.01 * torch.rand(15, 2)
    means, centres = cluster_and_merge(tokens, 3)
    expected = tokens.reshape(3, 5, 2).mean(1)[centres // 5]
    assert sorted((centres // 5).tolist()) == [0, 1, 2]
    torch.testing.assert_close(means, expected, atol=1e-4, rtol=1e-4)


def test_clustering_in_blocks_is_clustering() -> None:
    tokens = torch.randn(150, 2048)
    distance = (tokens[:, None] - tokens[None]).square().sum(-1).sqrt() / 2048**0.5
    density = torch.exp(-distance.topk(7, largest=False).values.square().mean(-1)) + torch.arange(150) / 150 * 1e-6
    parent = torch.where(density[None] > density[:, None], distance, distance.max()).amin(-1)
    assert cluster_and_merge(tokens, 7)[1].tolist() == (parent * density).topk(7).indices.tolist()


def test_dropped_tokens_are_recycled_best_first() -> None:
    seen, order = scene([40]), torch.arange(39, -1, -1)
    selection = merge_clusters(seen, order, torch.arange(35, 40), 2)
    assert selection.anchors is not None
    assert selection.merged is not None
    # int(0.3 * 35) + 1 = 11 of the 35 dropped tokens, the best-scored ones.
    assert set(selection.anchors.tolist()) <= set(range(24, 35))
    torch.testing.assert_close(selection.merged, cluster_and_merge(seen.hidden[range(34, 23, -1)], 2)[0])


def test_one_cluster_is_what_clustering_gives() -> None:
    """Up to 8 tokens the ramp that breaks ties is finer than float32 is around 1; behind that two may tie."""
    for recycled in range(1, 9):
        dropped = next(n for n in range(1, 40) if int(0.3 * n) + 1 == recycled)
        seen, order = scene([40]), torch.randperm(40, generator=torch.Generator().manual_seed(recycled))
        kept = 40 - dropped
        selection = merge_clusters(seen, order, order[:kept].sort().values, 1)
        means, centres = cluster_and_merge(seen.hidden[order[kept : kept + recycled]], 1)
        assert selection.merged is not None
        assert selection.anchors is not None
        torch.testing.assert_close(selection.merged, means)
        assert selection.anchors.tolist() == order[kept : kept + recycled][centres].tolist()


def test_contextual_tokens_by_hand() -> None:
    features = torch.tensor([[1.0], [2.0], [4.0], [8.0], [16.0]])
    keys = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0.1, 1], [1, 0.1]])
    merged, targets = contextual_merge(features, keys, torch.tensor([1]), 2)
    assert targets.tolist() == [0, 3]
    assert merged.flatten().tolist() == [1 + 16, 8 + 4]


def test_contextual_token_without_others_is_its_target() -> None:
    merged, targets = contextual_merge(torch.tensor([[1.0], [2.0]]), torch.ones(2, 2), torch.tensor([1]), 1)
    assert (merged.tolist(), targets.tolist()) == ([[1.0]], [0])
