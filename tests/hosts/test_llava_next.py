"""LLaVA-NeXT: tiles, row ends and both packings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from senna_prune import Budget, prune, pruner_for
from senna_prune.hosts.llava_next import LlavaNextHost, pack_spatial, spatial_order
from senna_prune.pruning import method_names
from tests.tiny_hosts import PINPOINTS, SIDE, prompts, tiny_host

SIZES = [(90, 160), (160, 84), (112, 112), (50, 200)]
"""Padded at top and bottom, at the sides, nowhere, and much at top and bottom."""
P, GRID = 16, 4


def raw(model: Any, inputs: dict[str, Any]) -> tuple[list[Tensor], list[tuple[int, int]]]:
    """Class-token attention of every tile, (tiles, 16) per image, and tiles per column and row, found anew."""
    grids = []
    for height, width in inputs["image_sizes"].tolist():
        fits = [(min(h / height, w / width), h, w) for h, w in PINPOINTS]
        shown = [(min(int(height * f) * int(width * f), height * width), -h * w, (h, w)) for f, h, w in fits]
        h, w = max(shown)[2]
        grids.append((h // SIDE, w // SIDE))
    tiles = [1 + rows * columns for rows, columns in grids]
    pixels = torch.cat([own[:n] for own, n in zip(inputs["pixel_values"], tiles, strict=True)])
    with torch.no_grad():
        weights = model.model.vision_tower(pixels, output_attentions=True).attentions[-2]
    return list(weights[:, :, 0, 1:].mean(1).split(tiles)), grids


def mosaic(tiles: Tensor, rows: int, columns: int) -> list[list[float]]:
    """Values of the patches of all tiles but the first, as they lie in the image."""
    return [
        [
            float(tiles[1 + (y // GRID) * columns + x // GRID, (y % GRID) * GRID + x % GRID])
            for x in range(columns * GRID)
        ]
        for y in range(rows * GRID)
    ]


def test_scores_stand_where_their_tokens_stand_and_a_row_end_has_the_mean_of_its_row() -> None:
    model, processor = tiny_host("llava_next", "eager")
    inputs = prompts(processor, SIZES)
    arguments = {name: inputs[name] for name in ("pixel_values", "image_sizes")}
    with torch.no_grad():
        outputs, scores = LlavaNextHost(model).encode_with_vision_scores(model.get_image_features, arguments)
    expected: list[float] = []
    tiles, grids = raw(model, inputs)
    for own, grid, (height, width) in zip(tiles, grids, SIZES, strict=True):
        image = mosaic(own, *grid)
        tall, wide = len(image), len(image[0])
        if width / height > wide / tall:
            cut = (tall - int(round(height * wide / width, 7))) // 2
            image = image[cut : tall - cut]
        else:
            cut = (wide - int(round(width * tall / height, 7))) // 2
            image = [row[cut : wide - cut] for row in image]
        expected += own[0].tolist()
        for row in image:
            expected += [*row, sum(row) / len(row)]
    assert [len(image) for image in outputs.pooler_output] == [len(e) for e in scores.score.split(lengths(outputs))]
    torch.testing.assert_close(scores.score, torch.tensor(expected), atol=1e-6, rtol=1e-5)


def lengths(outputs: Any) -> list[int]:
    return [len(image) for image in outputs.pooler_output]


def test_spatial_packing_has_all_tiles_and_no_row_ends() -> None:
    model, processor = tiny_host("llava_next", "eager")
    plain = prompts(processor, SIZES[:2], SIZES[2:])
    with torch.no_grad():
        inputs = pack_spatial(model, plain)
    outputs = inputs["mm_encoder_outputs"]["image"]
    scores, grids = raw(model, plain)
    assert lengths(outputs) == [(1 + rows * columns) * P for rows, columns in grids]
    expected = []
    for own, grid in zip(scores, grids, strict=True):
        expected += [*own[0].tolist(), *(value for row in mosaic(own, *grid) for value in row)]
    torch.testing.assert_close(outputs.vision_scores.score, torch.tensor(expected), atol=1e-6, rtol=1e-5)
    # Ids: the same text around longer runs.
    for row, longer, mask in zip(plain["input_ids"], inputs["input_ids"], inputs["attention_mask"], strict=True):
        mark = model.config.image_token_id
        assert longer[mask.bool()][longer[mask.bool()] != mark].tolist() == row[(row != mark) & (row != 0)].tolist()
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == sum(lengths(outputs))


@pytest.mark.parametrize("method", method_names())
def test_every_method_runs_on_spatial_packing_encoded_once(method: str) -> None:
    model, processor = tiny_host("llava_next")
    with torch.no_grad():
        inputs = pack_spatial(model, prompts(processor, SIZES[:2], SIZES[2:3]))
    tokens = [sum(lengths(inputs["mm_encoder_outputs"]["image"])[part]) for part in (slice(2), slice(2, 3))]
    with prune(model, pruner_for(model, method, Budget.retention(0.25))) as trace:
        model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert [sample.num_visual for sample in trace.samples] == tokens


def test_four_tiles_of_576_patches_are_2880_tokens() -> None:
    grid = torch.arange(5 * 576 * 2.0).view(5, 576, 2)
    packed = spatial_order(grid, 2, 2)
    assert packed.shape == (2880, 2)
    assert torch.equal(packed[:576], grid[0])
    # The first row of patches crosses the two upper tiles.
    assert torch.equal(packed[576 : 576 + 48], torch.cat([grid[1, :24], grid[2, :24]]))
