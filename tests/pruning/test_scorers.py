"""Scores, indicators and merges against numbers computed another way."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from senna_prune.pruning.base import EMBEDDINGS, LAST_ATTENTION, NEXT_ATTENTION, ROPE_PRODUCT, TEXT_ATTENTION, VISION
from senna_prune.pruning.clusters import cluster_and_merge
from senna_prune.pruning.methods.autoprune import mutual_information, printed_mutual_information
from senna_prune.pruning.methods.visionzip import contextual_merge
from tests.pruning.scenes import pruner, scene


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


def test_methods_declare_what_they_need() -> None:
    for indicator in ("mutual_information", "mean_attention", "cosine"):
        for variant in ("released", "paper"):
            policy = pruner("autoprune", 0.3, indicator=indicator, variant=variant)
            embeddings = {EMBEDDINGS} if indicator == "cosine" else set()
            assert policy.needs == {TEXT_ATTENTION} | embeddings | ({VISION} if variant == "released" else set())
    assert pruner("sparsevlm_v2", 0.5).needs - pruner("sparsevlm", 0.5).needs == {ROPE_PRODUCT}
    assert pruner("fastv", 0.5).needs == {LAST_ATTENTION}
    assert pruner("pyramiddrop", 0.5).needs == {NEXT_ATTENTION}


def test_layer_0_score_of_autoprune() -> None:
    seen = scene([8, 8], layer=1)
    assert seen.vision is not None
    weight = mutual_information(seen.attention).sum() / seen.attention.shape[1]
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
    alone = scene([6], queries=1)
    torch.testing.assert_close(pruner("sparsevlm", 0.5).score(alone), alone.attention.mean(0)[0])


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


def test_dropped_tokens_are_recycled_best_first() -> None:
    seen, order = scene([40]), torch.arange(39, -1, -1)
    selection = pruner("sparsevlm", 0.5).merge(seen, order, torch.arange(35, 40), 2)
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
        selection = pruner("sparsevlm", 0.5).merge(seen, order, order[:kept].sort().values, 1)
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
    # Without others a contextual token is its target.
    merged, targets = contextual_merge(torch.tensor([[1.0], [2.0]]), torch.ones(2, 2), torch.tensor([1]), 1)
    assert (merged.tolist(), targets.tolist()) == ([[1.0]], [0])
