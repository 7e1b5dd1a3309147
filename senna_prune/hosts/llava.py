"""LLaVA-1.5: every image is the patches of its tower, in one run of placeholders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from senna_prune.errors import PruningError
from senna_prune.hosts.host import Host, PatchGrid
from senna_prune.hosts.tower import encode_with_patch_scores, scored_layer
from senna_prune.image_files import middle_square
from senna_prune.pruning.base import VisionScores


class LlavaHost(Host):
    """See `Host`."""

    def check_geometry(self, scores: bool) -> None:
        tower = getattr(self.model.config.vision_config, "model_type", None)
        if tower == "pixtral":
            problem = "a Pixtral tower has images of any size, a break after each row of patches and no class token"
            raise PruningError(problem, where="vision_config", hint="choose a LLaVA with a CLIP or SigLIP tower")
        if scores:
            scored_layer(self.model, {})

    def encode_with_vision_scores(self, encode: Callable[..., Any], images: dict[str, Any]) -> tuple[Any, VisionScores]:
        outputs, (scores, keys) = encode_with_patch_scores(self.model, encode, images)
        return outputs, VisionScores(scores.flatten(), keys.flatten(0, 1))

    def patch_grids(
        self, processor: Any, inputs: Mapping[str, Any], number: int, size: tuple[int, int], count: int
    ) -> list[PatchGrid]:
        side, reader = round(count**0.5), processor.image_processor
        padded, cropped = (getattr(reader, name, None) for name in ("do_pad", "do_center_crop"))
        # Without padding or cropping the whole image is squeezed into a square, as SigLIP's processor does.
        box = middle_square(size, bool(padded)) if padded or cropped else (0, 0, *size)
        return [PatchGrid(side, side, box)]
