"""Qwen2.5-VL: images of any size; positions of three axes, which the engine slices and never recomputes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision
from transformers.vision_utils import get_vision_window_index

from senna_prune.errors import PruningError
from senna_prune.hosts.host import Host, PatchGrid
from senna_prune.hosts.tower import received
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.base import VisionScores


class Qwen25VLHost(Host):
    """See `Host`. The tower has no class token: a patch scores the mean attention it receives in the last block whose
    attention covers the whole image, and a visual token the mean of its four patches. Keys are taken before rotation.
    """

    renumbers = False

    def check_geometry(self, scores: bool) -> None:
        if scores:
            self.scored_attention()

    def scored_attention(self) -> Any:
        """Of the last block that attends to the whole image.

        Raises:
            PruningError: none does.
        """
        tower = self.model.base_model.visual
        whole = [number for number in tower.fullatt_block_indexes if number < len(tower.blocks)]
        if not whole:
            raise PruningError("no block of the vision tower attends to the whole image", where="fullatt_block_indexes")
        return tower.blocks[max(whole)].attn

    def in_order(self, tokens: Tensor, grid: Tensor) -> Tensor:
        """Numbers per token, (n, ...), as the tower computes them, in the order in which the decoder gets them.

        Args:
            grid: time, height and width of each image in patches, (images, 3).
        """
        tower = self.model.base_model.visual
        windows, _ = get_vision_window_index(
            grid,
            spatial_merge_size=tower.spatial_merge_size,
            window_size=tower.window_size,
            patch_size=tower.patch_size,
        )
        return tokens[torch.as_tensor(windows).argsort().to(tokens.device)]

    def layouts(self, rows: Sequence[Tensor], images: Any) -> list[TokenLayout]:
        if any((row == self.model.config.video_token_id).any() for row in rows):
            raise PruningError("tokens of videos cannot be pruned", hint="give the frames as images")
        return super().layouts(rows, images)

    def encode_with_vision_scores(self, encode: Callable[..., Any], images: dict[str, Any]) -> tuple[Any, VisionScores]:
        tower, attention, caught = self.model.base_model.visual, self.scored_attention(), dict[str, Any]()

        def catch_arguments(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
            caught.update(kwargs)

        def catch_projections(module: Any, args: Any, output: Tensor) -> None:
            caught["qkv"] = output

        handles = [
            attention.register_forward_pre_hook(catch_arguments, with_kwargs=True),
            attention.qkv.register_forward_hook(catch_projections),
        ]
        try:
            outputs = encode(**images)
        finally:
            for handle in handles:
                handle.remove()
        queries, keys, _ = caught["qkv"].unflatten(-1, (3, attention.num_heads, -1)).unbind(1)
        turned = apply_rotary_pos_emb_vision(queries, keys, *caught["position_embeddings"])
        sizes = caught["cu_seqlens"].diff().tolist()
        each = zip(*(part.transpose(0, 1).split(sizes, dim=1) for part in (*turned, keys)), strict=True)
        seen = [(received(q, k, attention.scaling), plain.float().mean(dim=0)) for q, k, plain in each]
        # The four patches of a token stand side by side.
        tokens = (
            torch.cat(part).unflatten(0, (-1, tower.spatial_merge_unit)).mean(dim=1) for part in zip(*seen, strict=True)
        )
        return outputs, VisionScores(*(self.in_order(part, images["image_grid_thw"]) for part in tokens))

    def patch_grids(
        self, processor: Any, inputs: Mapping[str, Any], number: int, size: tuple[int, int], count: int
    ) -> list[PatchGrid]:
        merged = self.model.config.vision_config.spatial_merge_size
        _, rows, columns = (length // merged for length in inputs["image_grid_thw"][number].tolist())
        return [PatchGrid(rows, columns, (0, 0, *size))]
