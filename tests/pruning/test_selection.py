"""Top-k per camera, with a floor and with weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from senna_prune.pruning.selection import kept_first

VIEWS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
SCORE = torch.tensor([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0])


def select_top(score: Tensor, views: Tensor, num_views: int, keep: int, **options: Any) -> Tensor:
    return kept_first(score, views, num_views, keep, **options)[:keep].sort().values


def per_view(keep: Tensor, views: Tensor = VIEWS, num_views: int = 3) -> list[int]:
    return views[keep].bincount(minlength=num_views).tolist()


def test_views_compete_by_default() -> None:
    assert select_top(SCORE, VIEWS, 3, 4).tolist() == [0, 1, 2, 3]


def test_no_view_goes_blind() -> None:
    assert select_top(SCORE, VIEWS, 3, 4, minimum=1).tolist() == [0, 1, 3, 6]
    assert select_top(SCORE, VIEWS, 3, 6, minimum=2).tolist() == [0, 1, 3, 4, 6, 7]


def test_a_floor_above_the_budget_becomes_an_equal_share() -> None:
    assert select_top(SCORE, VIEWS, 3, 3, minimum=50).tolist() == [0, 3, 6]
    assert select_top(SCORE, VIEWS, 3, 2, minimum=50).tolist() == [0, 1]


def test_per_view_gives_equal_shares() -> None:
    assert per_view(select_top(SCORE, VIEWS, 3, 6, per_view=True)) == [2, 2, 2]
    assert select_top(SCORE, VIEWS, 3, 4, per_view=True).tolist() == [0, 1, 3, 6]


def test_a_short_view_leaves_its_share_to_the_others() -> None:
    views = torch.tensor([0, 1, 1, 1, 1])
    assert per_view(select_top(torch.arange(5.0), views, 2, 4, per_view=True), views, 2) == [1, 3]


def test_weights() -> None:
    assert select_top(SCORE, VIEWS, 3, 3, weights=(0.0, 0.0, 1.0)).tolist() == [6, 7, 8]
    views = torch.repeat_interleave(torch.arange(2), 10)
    assert per_view(select_top(torch.rand(20), views, 2, 9, per_view=True, weights=(2.0, 1.0)), views, 2) == [6, 3]


def test_a_weight_above_one_favours_a_view_whatever_the_sign() -> None:
    """SparseVLM 2 divides attention by a product that can be negative."""
    score = torch.tensor([-2.0, 1.0, -2.0, 1.0])
    views = torch.tensor([0, 0, 1, 1])
    assert select_top(score, views, 2, 3, weights=(1.0, 2.0)).tolist() == [1, 2, 3]
    assert select_top(score, views, 2, 3, weights=(2.0, 1.0)).tolist() == [0, 1, 3]
    assert select_top(score, views, 2, 2, weights=(0.0, 1.0)).tolist() == [2, 3]


def test_an_outlier_does_not_make_weights_outweigh_scores() -> None:
    score = torch.tensor([-1e6, 0.2, 0.9, 0.1])
    assert select_top(score, torch.tensor([0, 0, 1, 2]), 3, 1, weights=(1.0, 1.0, 1.1)).tolist() == [2]


def test_ties_go_to_the_earlier_token() -> None:
    assert select_top(torch.zeros(9), VIEWS, 3, 4).tolist() == [0, 1, 2, 3]


@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=12),
    share=st.floats(0, 1),
    minimum=st.integers(0, 5),
    scoped=st.booleans(),
    weighted=st.booleans(),
)
def test_any_combination_of_options_gives_a_sorted_set_of_the_right_size(
    sizes: list[int], share: float, minimum: int, scoped: bool, weighted: bool
) -> None:
    views = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    keep = int(share * len(views))
    weights = tuple(range(1, len(sizes) + 1)) if weighted else None
    chosen = select_top(
        torch.rand(len(views)), views, len(sizes), keep, per_view=scoped, minimum=minimum, weights=weights
    )
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == keep
    floor = min(minimum, keep // len(sizes))
    counts = per_view(chosen, views, len(sizes))
    assert all(count >= min(floor, size) for count, size in zip(counts, sizes, strict=True))


@pytest.mark.parametrize("keep", [9, 12])
def test_enough_room_keeps_all(keep: int) -> None:
    assert select_top(SCORE, VIEWS, 3, keep, per_view=True).tolist() == list(range(9))


@pytest.mark.parametrize("options", [{}, {"per_view": True}, {"minimum": 1}, {"weights": (1.0, 3.0, 0.0)}])
def test_the_kept_come_first_and_the_others_by_falling_score(options: dict[str, Any]) -> None:
    order = kept_first(SCORE, VIEWS, 3, 4, **options)
    assert order[:4].sort().values.tolist() == select_top(SCORE, VIEWS, 3, 4, **options).tolist()
    assert sorted(order.tolist()) == list(range(9))
    others = SCORE[order[4:]].tolist()
    assert others == sorted(others, reverse=True)
