"""LLaVA-NeXT: a small copy of each image, then its tiles row by row, as the model packs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape, image_size_to_num_patches

from senna_prune.errors import PruningError
from senna_prune.hosts.host import VISION_SCORES, PatchGrid, layouts_of
from senna_prune.hosts.llava import LlavaHost
from senna_prune.hosts.tower import encode_with_patch_scores
from senna_prune.pruning.base import VisionScores


class LlavaNextHost(LlavaHost):
    """See `Host`. Scores and keys are packed as the features are. An `image_newline`, which ends a row of patches, was
    seen by no tower: it gets the mean score and the mean key of its row, or, of an empty row, of the small copy."""

    def check_geometry(self, scores: bool) -> None:
        super().check_geometry(scores)
        newline = getattr(self.model.base_model, "image_newline", None)
        if newline is None or newline.is_meta:
            problem = "image_newline, which the model reads outside of any layer, is not in memory"
            raise PruningError(problem, where="device_map", hint="keep it on a device")

    def encode_with_vision_scores(self, encode: Callable[..., Any], images: dict[str, Any]) -> tuple[Any, VisionScores]:
        outputs, (scores, keys) = encode_with_patch_scores(self.model, encode, images)
        sizes, table = images["image_sizes"], torch.cat([scores[..., None], keys.float()], dim=-1)
        packed, patches = [], scores.shape[1]
        # The same packing of ones, with zeros for row ends, tells how many rows there are.
        for values, marks in zip(
            self._pack(table, sizes), self._pack(torch.ones(*scores.shape, 1), sizes), strict=True
        ):
            # Un-padding leaves a very wide image no rows, and a very high one rows of nothing but their end.
            if rows := len(marks) - int(marks.sum()):
                grid = values[patches:].unflatten(0, (rows, -1))
                grid[:, -1] = grid[:, :-1].mean(dim=1) if grid.shape[1] > 1 else values[:patches].mean(dim=0)
            packed.append(values)
        found = torch.cat(packed)
        return outputs, VisionScores(found[:, 0], found[:, 1:])

    def patch_grids(
        self, processor: Any, inputs: Mapping[str, Any], number: int, size: tuple[int, int], count: int
    ) -> list[PatchGrid]:
        """The small copy is the whole image squeezed into a square; the tiles lose their padding again."""
        config, sizes, whole = self.model.config.vision_config, inputs["image_sizes"][number][None], (0, 0, *size)
        side = config.image_size // config.patch_size
        (marks,) = self._pack(torch.ones(sum(self.tiles(sizes)), side * side, 1), sizes)
        rows = len(marks) - int(marks.sum())
        columns = (len(marks) - side * side) // rows - 1 if rows else 0
        return [PatchGrid(side, side, whole), PatchGrid(rows, columns, whole, row_ends=True)]

    def tiles(self, sizes: Any) -> list[int]:
        """Tiles of each image, the small copy included."""
        config = self.model.config
        side = config.vision_config.image_size
        return [image_size_to_num_patches(size, config.image_grid_pinpoints, side) for size in sizes]

    def _pack(self, patches: Tensor, sizes: Any) -> list[Tensor]:
        """Numbers per patch, (tiles, P, c), packed by the model, with zeros for row ends; (n, c) per image."""
        strategy, zeros = self.model.config.vision_feature_select_strategy, patches.new_zeros(patches.shape[-1])
        split = patches.split(self.tiles(sizes))
        return self.model.base_model.pack_image_features(split, sizes, strategy, image_newline=zeros)[0]


def pack_spatial(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs whose images are packed as `spatial`: all tiles in full and no row ends, so 2,880 tokens for four tiles,
    as the released AutoPrune has it. The model itself packs as `spatial_unpad`.

    Args:
        model: a `LlavaNextForConditionalGeneration`.
        inputs: what `LlavaNextProcessor` made: `input_ids`, `attention_mask`, `pixel_values` and `image_sizes`.

    Returns:
        Ids padded on the left, their mask, and the encoded images with vision scores, for `generate` or a forward pass,
        inside a `prune` context or not; as often as wanted.

    Raises:
        InputError: ids and images do not match.
    """
    host, projected = LlavaNextHost(model), list[Tensor]()
    sizes, pixels, config = inputs["image_sizes"], inputs["pixel_values"], model.config
    handle = model.base_model.multi_modal_projector.register_forward_hook(
        lambda module, args, output: projected.append(output)
    )
    try:
        outputs, patches = encode_with_patch_scores(
            model, model.base_model.get_image_features, {"pixel_values": pixels, "image_sizes": sizes}
        )
    finally:
        handle.remove()
    side, tiles, unpadded = config.vision_config.image_size, host.tiles(sizes), outputs.pooler_output
    grids = [get_anyres_image_grid_shape(size, config.image_grid_pinpoints, side) for size in sizes]

    def packed(values: Tensor) -> list[Tensor]:
        return [spatial_order(own, *grid) for own, grid in zip(values.split(tiles), grids, strict=True)]

    outputs.pooler_output = packed(projected[0])
    scores, keys = (torch.cat(packed(part)) for part in (patches[0][..., None], patches[1]))
    outputs[VISION_SCORES] = VisionScores(scores[:, 0], keys)
    rows = [ids[mask.bool()] for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]
    layouts = layouts_of([row.cpu() for row in rows], config.image_token_id, [len(image) for image in unpadded])
    lengths = iter([len(image) for image in outputs.pooler_output])
    longer = []
    for row, layout in zip(rows, layouts, strict=True):
        parts, end = [], 0
        for span in layout.views.values():
            parts += [row[end : span.start], row.new_full((next(lengths),), config.image_token_id)]
            end = span.stop
        longer.append(torch.cat([*parts, row[end:]]))
    padding = config.get_text_config().pad_token_id or 0
    return {
        "input_ids": pad_sequence(longer, batch_first=True, padding_value=padding, padding_side="left"),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in longer], True, 0, "left"),
        "mm_encoder_outputs": {"image": outputs},
    }


def spatial_order(tiles: Tensor, rows: int, columns: int) -> Tensor:
    """The small copy, then the patches of all tiles from left to right and from top to bottom, ((1 + tiles) * P, c).

    Args:
        tiles: numbers per patch of one image, the small copy first, (1 + rows * columns, P, c).
    """
    side = round(tiles.shape[1] ** 0.5)
    grid = tiles[1:].unflatten(1, (side, side)).unflatten(0, (rows, columns))
    return torch.cat([tiles[0], grid.transpose(1, 2).flatten(0, 3)])
