"""Top-k per camera, with a floor and with weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from senna_prune.pruning.selection import kept_first

NINE, THREE = [9.0, 8, 7, 6, 5, 4, 3, 2, 1], [0, 0, 0, 1, 1, 1, 2, 2, 2]
FOUR, TWO = [-2.0, 1, -2, 1], [0, 0, 1, 1]


def kept(score: Tensor, views: Tensor, keep: int, **options: Any) -> list[int]:
    return sorted(kept_first(score, views, int(views.max()) + 1, keep, **options)[:keep].tolist())


@pytest.mark.parametrize(
    ("score", "views", "keep", "options", "expected"),
    [
        (NINE, THREE, 4, {}, [0, 1, 2, 3]),
        ([0.0] * 9, THREE, 4, {}, [0, 1, 2, 3]),  # ties go to the earlier token
        (NINE, THREE, 4, {"minimum": 1}, [0, 1, 3, 6]),  # no view goes blind
        (NINE, THREE, 6, {"minimum": 2}, [0, 1, 3, 4, 6, 7]),
        (NINE, THREE, 3, {"minimum": 50}, [0, 3, 6]),  # a floor above the budget becomes an equal share
        (NINE, THREE, 2, {"minimum": 50}, [0, 1]),
        (NINE, THREE, 6, {"per_view": True}, [0, 1, 3, 4, 6, 7]),
        (NINE, THREE, 4, {"per_view": True}, [0, 1, 3, 6]),
        (NINE, THREE, 9, {"per_view": True}, list(range(9))),
        (NINE, THREE, 12, {"per_view": True}, list(range(9))),
        ([0.0, 1, 2, 3, 4], [0, 1, 1, 1, 1], 4, {"per_view": True}, [0, 2, 3, 4]),  # a short view leaves its share
        (NINE, THREE, 3, {"weights": (0.0, 0.0, 1.0)}, [6, 7, 8]),
        # A weight above 1 favours a view whatever the sign: SparseVLM 2 divides attention by what can be negative.
        (FOUR, TWO, 3, {"weights": (1.0, 2.0)}, [1, 2, 3]),
        (FOUR, TWO, 3, {"weights": (2.0, 1.0)}, [0, 1, 3]),
        (FOUR, TWO, 2, {"weights": (0.0, 1.0)}, [2, 3]),
        # An outlier does not make weights outweigh scores.
        ([-1e6, 0.2, 0.9, 0.1], [0, 0, 1, 2], 1, {"weights": (1.0, 1.0, 1.1)}, [2]),
    ],
)
def test_by_hand(score: list[float], views: list[int], keep: int, options: dict[str, Any], expected: list[int]) -> None:
    assert kept(torch.tensor(score), torch.tensor(views), keep, **options) == expected


def test_shares_follow_weights() -> None:
    views = torch.repeat_interleave(torch.arange(2), 10)
    chosen = kept(torch.rand(20), views, 9, per_view=True, weights=(2.0, 1.0))
    assert views[chosen].bincount().tolist() == [6, 3]


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    share=st.floats(0, 1),
    minimum=st.integers(0, 5),
    scoped=st.booleans(),
    weights=st.sampled_from([None, (1.0, 2.0, 3.0), (1.0, 3.0, 0.0)]),
)
def test_any_combination_keeps_the_right_number_first_and_the_others_by_falling_score(
    sizes: list[int], share: float, minimum: int, scoped: bool, weights: tuple[float, ...] | None
) -> None:
    views = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    score, keep = torch.rand(len(views)), int(share * len(views))
    weights = weights and (weights * 4)[: len(sizes)]
    order = kept_first(score, views, len(sizes), keep, per_view=scoped, minimum=minimum, weights=weights)
    assert sorted(order.tolist()) == list(range(len(views)))
    others = score[order[keep:]].tolist()
    assert others == sorted(others, reverse=True)
    floor, counts = min(minimum, keep // len(sizes)), views[order[:keep]].bincount(minlength=len(sizes)).tolist()
    assert all(count >= min(floor, size) for count, size in zip(counts, sizes, strict=True))
