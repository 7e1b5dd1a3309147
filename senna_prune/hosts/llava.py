"""LLaVA-1.5: every image is the patches of its tower, in one run of placeholders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from senna_prune.errors import PruningError
from senna_prune.hosts.host import Host
from senna_prune.hosts.tower import encode_with_patch_scores, scored_layer
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
