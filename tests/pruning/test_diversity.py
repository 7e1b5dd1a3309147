"""Methods that choose token after token, or merge them, against slow and plain computations."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from senna_prune.pruning.base import Observation
from senna_prune.pruning.methods.cdpruner import greedy_map, scaled
from senna_prune.pruning.methods.dart import in_turns, shares, take_turns
from senna_prune.pruning.methods.tome import destinations, merge_rounds
from senna_prune.pruning.ordering import Ordered, cosines, farthest_points
from tests.pruning.scenes import BUDGETED, pruner, scene

ORDERED = [name for name in BUDGETED if isinstance(pruner(name, 0.5), Ordered)]
assert ORDERED == ["cdpruner", "dart", "divprune", "prune2drive", "tome"]


def test_a_lone_token_of_a_view_is_chosen_with_the_first() -> None:
    order = farthest_points(torch.randn(5, 4), 5, torch.tensor([0, 0, 1, 2, 2]))
    assert 2 in order[:3].tolist()


def test_mutual_neighbours_tie_and_the_lower_index_is_first() -> None:
    features = torch.tensor([[1.0, 0.01], [0.02, 1.0], [1.0, 0.011], [0.021, 1.0]])
    apart = (1 - cosines(features)).fill_diagonal_(9).amin(1)
    assert apart[0] == apart[2] and apart[1] == apart[3]
    assert farthest_points(features, 1).item() == (0 if apart[0] >= apart[1] else 1)


def test_nothing_is_chosen_twice_where_vectors_repeat() -> None:
    features = torch.randn(4, 8)[torch.arange(20) % 4]
    assert sorted(farthest_points(features, 20).tolist()) == list(range(20))
    kernel = cosines(features)
    order = greedy_map(kernel, 20)
    assert sorted(order.tolist()) == list(range(20))
    assert {int(token) % 4 for token in order[:4]} == {0, 1, 2, 3}


def test_where_nothing_is_different_any_more_relevance_decides() -> None:
    relevance = torch.tensor([0.9, 0.2, 1.0, 0.5], dtype=torch.double)
    kernel = relevance[:, None] * relevance  # all tokens alike
    assert greedy_map(kernel, 4).tolist() == [2, 0, 3, 1]
    assert scaled(torch.full((3,), 0.7)).tolist() == [1, 1, 1]
    assert pruner("cdpruner", 0.5).needs == {"embeddings"}
    assert pruner("cdpruner", 0.5, relevance="uniform").needs == set()


def test_pivots_take_turns() -> None:
    similarity = torch.tensor([[torch.inf, 0.1, 0.2, 0.3, 0.4], [torch.inf, 0.1, 0.9, 0.2, 0.3]])
    taken = take_turns(similarity, shares(3, 2))
    assert [tokens.tolist() for tokens in taken] == [[1, 2], [3]]
    assert in_turns(taken).tolist() == [1, 3, 2]
    assert [sum(shares(total, 8)) for total in range(30)] == list(range(30))


def test_dart_keeps_the_image_pivots_and_what_differs_from_all_pivots() -> None:
    seen = scene([40, 40], layer=2)
    assert seen.sequence_keys is not None
    norm = seen.sequence_keys.abs().sum((0, 2))
    pivots = set(norm[:80].topk(4).indices.tolist())
    for count in (3, 4, 5, 12, 20, 79):
        kept = set(pruner("dart", 0.5).select(seen, count, 0).keep.tolist())
        assert len(kept) == count
        assert kept <= pivots or pivots <= kept
    without_text = replace(seen, queries=0)
    assert pruner("dart", 0.5).select(without_text, 12, 0).keep.numel() == 12


@pytest.mark.parametrize("name", ORDERED)
def test_equal_weights_choose_what_no_weights_choose(name: str) -> None:
    """The order of all tokens begins with the tokens that are kept without options."""
    seen = scene([20, 30, 10], layer=2)
    plain = pruner(name, 0.5).select(seen, 21, 0).keep
    weighted = pruner(name, 0.5, view_weights=(1.0, 1.0, 1.0)).select(seen, 21, 0).keep
    assert weighted.tolist() == plain.tolist()


def members(seen: Observation, keep: Tensor) -> list[list[int]]:
    """Which tokens went into each kept one."""
    _, into, _ = merge_rounds(seen.hidden, seen.views, seen.num_views)
    target = destinations(into, keep)
    return [(target == token).nonzero().flatten().tolist() for token in keep]


def test_the_first_pair_to_merge_is_the_most_similar_one() -> None:
    seen = scene([7, 9])
    selection = pruner("tome", 0.9).select(seen, 15, 0)
    (lost,) = set(range(16)) - set(selection.keep.tolist())
    place, size = (lost, 7) if lost < 7 else (lost - 7, 9)
    assert place % 2 == 0
    start = lost - place
    similarity = cosines(seen.hidden)
    pairs = [
        (similarity[first + a, first + b].item(), first + a, first + b)
        for first, length in ((0, 7), (7, 9))
        for a, b in itertools.product(range(0, length, 2), range(1, length, 2))
    ]
    _, source, taker = max(pairs)
    assert source == lost
    assert start <= taker < start + size
    assert selection.states is not None
    expected = seen.hidden[selection.keep].clone()
    expected[selection.keep.tolist().index(taker)] = seen.hidden[[source, taker]].mean(0)
    torch.testing.assert_close(selection.states, expected)


@pytest.mark.parametrize("count", [1, 3, 5, 11, 24, 31])
def test_every_token_lives_on_in_its_own_view(count: int) -> None:
    seen = scene([1, 13, 18])
    selection = pruner("tome", 0.5).select(seen, count, 0)
    assert selection.states is not None
    groups = members(seen, selection.keep)
    lone = count < 3  # fewer tokens than views: some views are left out
    assert lone or sorted(itertools.chain(*groups)) == list(range(32))
    for token, group, state in zip(selection.keep.tolist(), groups, selection.states, strict=True):
        assert token in group
        assert set(seen.views[group].tolist()) == {int(seen.views[token])}
        torch.testing.assert_close(state, seen.hidden[group].mean(0))


def test_merging_needs_no_agreement_with_the_order() -> None:
    """Where weights of 0 keep tokens in index order, those without a kept heir are dropped."""
    seen = scene([6, 6])
    keep = torch.tensor([0, 1, 7])
    selection = pruner("tome", 0.5).merge(seen, torch.zeros(12), keep, 0)
    assert selection.states is not None
    assert torch.isfinite(selection.states).all()
    for group, state in zip(members(seen, keep), selection.states, strict=True):
        torch.testing.assert_close(state, seen.hidden[group].mean(0))
