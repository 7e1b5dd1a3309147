"""Which tokens see an object, and lift, computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from senna_prune.evaluation.audit.survival import View, audited_layers, nearness, seeing_tokens, survival
from senna_prune.task.objects import SeenObject

PATCHES = np.eye(16)
"""Tokens that are patches, 4 x 4."""


def test_cover_of_a_padded_and_of_a_cropped_image() -> None:
    # 80 x 40 pixels on a square of 80: patches of 20, the image fills the second and third row.
    padded = View((80, 40), True, PATCHES)
    assert padded.patch_cover((0, 0, 20, 20)).reshape(4, 4).tolist() == [[0] * 4, [1, 0, 0, 0], [0] * 4, [0] * 4]
    assert padded.patch_cover((10, 0, 30, 10)).reshape(4, 4)[1].tolist() == [0.25, 0.25, 0, 0]
    # The middle 40 x 40 pixels: patches of 10, pixels left of 20 are cut off.
    cropped = View((80, 40), False, PATCHES)
    assert cropped.patch_cover((0, 0, 30, 10)).reshape(4, 4)[0].tolist() == [1, 0, 0, 0]
    assert cropped.patch_cover((0, 0, 20, 40)).sum() == 0


def test_tokens_see_what_fills_half_as_much_of_them_as_of_the_best() -> None:
    views = {"A": View((40, 40), True, PATCHES), "B": View((40, 40), True, PATCHES)}
    one = SeenObject("car", {"B": (0, 0, 15, 5)})  # half of a patch, and a quarter of the next
    assert seeing_tokens(one, views).nonzero()[0].tolist() == [16, 17]
    assert seeing_tokens(SeenObject("car", {"B": (0, 0, 14, 5)}), views).nonzero()[0].tolist() == [16]
    assert not seeing_tokens(SeenObject("car", {"C": (0, 0, 40, 40)}), views).any()


def test_mixed_tokens() -> None:
    mixed = np.array([[0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25], [0, 0, 0.5, 0.5]])
    view = View((20, 20), True, mixed)
    assert view.token_cover((0, 0, 10, 10)).tolist() == [0.5, 0.25, 0]
    assert seeing_tokens(SeenObject("cone", {"A": (0, 0, 10, 10)}), {"A": view}).tolist() == [True, True, False]


def test_the_nearest_object_that_a_token_sees_counts() -> None:
    views = {"A": View((40, 40), True, PATCHES)}
    far, near = SeenObject("car", {"A": (0, 0, 20, 10)}, 30.0), SeenObject("car", {"A": (10, 0, 20, 20)}, 5.0)
    unknown = SeenObject("car", {"A": (0, 0, 10, 40)})
    expected = [1 / 2, 1, 0, 0, 1 / 3, 1, 0, 0, 1 / 3, 0, 0, 0, 1 / 3, 0, 0, 0]
    assert nearness([unknown, far, near], views) == pytest.approx(expected)
    assert nearness([], views) == (0.0,) * 16


def test_survival_and_lift_by_hand() -> None:
    # 8 tokens, 4 layers; two see the object: one enters 1 layer, the other all.
    depths, seeing = [1, 4, 2, 2, 0, 4, 1, 1], np.array([1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
    assert audited_layers(4) == (1, 2, 3)
    assert survival(seeing, depths, (0, 1, 3)) == [1.0, 0.5, 0.5]
    everything = np.ones(8, dtype=bool)
    assert survival(everything, depths, (0, 1, 3)) == [7 / 8, 4 / 8, 2 / 8]
    assert math.isnan(survival(~everything, depths, (0,))[0])


@pytest.mark.parametrize(("layers", "found"), [(1, (0,)), (2, (0, 1)), (24, (6, 12, 18, 23)), (32, (8, 16, 24, 31))])
def test_audited_layers(layers: int, found: tuple[int, ...]) -> None:
    assert audited_layers(layers) == found


@given(
    st.tuples(*[st.floats(-50, 150)] * 4),
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
    st.booleans(),
)
def test_cover_is_a_share_and_the_areas_add_up(
    corners: tuple[float, float, float, float], size: tuple[int, int], padded: bool
) -> None:
    left, top = min(corners[0], corners[2]), min(corners[1], corners[3])
    box = (left, top, max(corners[0], corners[2]), max(corners[1], corners[3]))
    cover = View(size, padded, PATCHES).patch_cover(box)
    assert ((cover >= 0) & (cover <= 1 + 1e-9)).all()
    side = max(size) if padded else min(size)
    start = [(length - side) / 2 for length in size]
    inside = [max(min(box[axis + 2], start[axis] + side) - max(box[axis], start[axis]), 0.0) for axis in (0, 1)]
    assert cover.sum() * (side / 4) ** 2 == pytest.approx(inside[0] * inside[1], abs=1e-6)


def test_random_pruning_has_a_lift_of_one() -> None:
    draw, seeing = np.random.default_rng(0), np.zeros(200, dtype=bool)
    seeing[:30] = True
    kept = [draw.permutation(200) < 50 for _ in range(2000)]
    mean = np.mean([survival(seeing, one.astype(int), (0,))[0] for one in kept])
    assert mean / 0.25 == pytest.approx(1.0, abs=0.02)
