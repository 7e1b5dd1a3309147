"""Which tokens see an object, and lift, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from senna_prune.evaluation.audit.survival import (
    Mask,
    Survival,
    View,
    audited_layers,
    nearness,
    patch_grid,
    seeing_tokens,
    survival,
)
from senna_prune.task.objects import SeenObject

PATCHES = np.eye(16)
"""Tokens that are patches, 4 x 4."""


def test_cover_of_a_padded_and_of_a_cropped_image() -> None:
    # 80 x 40 pixels on a square of 80: patches of 20, the image fills the second and third row.
    padded = View.square((80, 40), True, PATCHES)
    assert padded.patch_cover((0, 0, 20, 20)).reshape(4, 4).tolist() == [[0] * 4, [1, 0, 0, 0], [0] * 4, [0] * 4]
    assert padded.patch_cover((10, 0, 30, 10)).reshape(4, 4)[1].tolist() == [0.25, 0.25, 0, 0]
    # The middle 40 x 40 pixels: patches of 10, pixels left of 20 are cut off.
    cropped = View.square((80, 40), False, PATCHES)
    assert cropped.patch_cover((0, 0, 30, 10)).reshape(4, 4)[0].tolist() == [1, 0, 0, 0]
    assert cropped.patch_cover((0, 0, 20, 40)).sum() == 0


def test_tokens_see_what_fills_half_as_much_of_them_as_of_the_best() -> None:
    views = dict.fromkeys("AB", View.square((40, 40), True, PATCHES))
    one = SeenObject("car", {"B": (0, 0, 15, 5)})  # half of a patch, and a quarter of the next
    assert seeing_tokens(one, views).nonzero()[0].tolist() == [16, 17]
    assert seeing_tokens(SeenObject("car", {"B": (0, 0, 14, 5)}), views).nonzero()[0].tolist() == [16]
    assert not seeing_tokens(SeenObject("car", {"C": (0, 0, 40, 40)}), views).any()


def test_mixed_tokens() -> None:
    mixed = np.array([[0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25], [0, 0, 0.5, 0.5]])
    view = View.square((20, 20), True, mixed)
    assert view.token_cover((0, 0, 10, 10)).tolist() == [0.5, 0.25, 0]
    assert seeing_tokens(SeenObject("cone", {"A": (0, 0, 10, 10)}), {"A": view}).tolist() == [True, True, False]


def test_the_nearest_object_that_a_token_sees_counts() -> None:
    views = {"A": View.square((40, 40), True, PATCHES)}
    far, near = SeenObject("car", {"A": (0, 0, 20, 10)}, 30.0), SeenObject("car", {"A": (10, 0, 20, 20)}, 5.0)
    unknown = SeenObject("car", {"A": (0, 0, 10, 40)})
    expected = [1 / 2, 1, 0, 0, 1 / 3, 1, 0, 0, 1 / 3, 0, 0, 0, 1 / 3, 0, 0, 0]
    objects = [unknown, far, near]
    assert nearness(objects, np.array([seeing_tokens(one, views) for one in objects])) == pytest.approx(expected)
    assert nearness([], np.zeros((0, 16), dtype=bool)) == (0.0,) * 16


def test_patches_of_no_place_see_nothing() -> None:
    """A grid of other than square form, and a token that ends a row."""
    patches = np.vstack([patch_grid((0, 0, 30, 20), 2, 3), np.zeros((1, 4))])
    assert patches[:4].tolist() == [[0, 0, 10, 10], [10, 0, 20, 10], [20, 0, 30, 10], [0, 10, 10, 20]]
    assert View(patches).token_cover((5, 5, 15, 30)).tolist() == [0.25, 0.25, 0, 0.5, 0.5, 0, 0]


def test_survival_by_hand() -> None:
    # 8 tokens; the first two see the object, none sees the second. A merged token has a negative number.
    seeing: Mask = np.zeros((2, 8), dtype=bool)
    seeing[0, :2] = True
    entering = {0: [0, 1, 2, 3, 5, 6, 7], 1: [1, 2, 3, 5], 3: [-3, 1, 5]}
    found = survival(seeing, {layer: np.array(kept) for layer, kept in entering.items()})
    assert found == Survival(layers=(0, 1, 3), tokens=(8, 7, 4, 2), objects=((2, 2, 1, 1), (0, 0, 0, 0)))
    with pytest.raises(ValueError, match="as many tokens"):
        Survival(layers=(0, 1), tokens=(8, 7, 4), objects=((2, 2, 3),))


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
    cover = View.square(size, padded, PATCHES).patch_cover(box)
    assert ((cover >= 0) & (cover <= 1 + 1e-9)).all()
    side = max(size) if padded else min(size)
    start = [(length - side) / 2 for length in size]
    inside = [max(min(box[axis + 2], start[axis] + side) - max(box[axis], start[axis]), 0.0) for axis in (0, 1)]
    assert cover.sum() * (side / 4) ** 2 == pytest.approx(inside[0] * inside[1], abs=1e-6)
