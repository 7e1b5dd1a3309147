"""LLaVA-1.5: every image is the patches of its tower, in one run of placeholders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from senna_prune.hosts.host import Host
from senna_prune.hosts.tower import encode_with_patch_scores
from senna_prune.pruning.base import VisionScores


class LlavaHost(Host):
    """See `Host`."""

    def encode_with_vision_scores(self, encode: Callable[..., Any], images: dict[str, Any]) -> tuple[Any, VisionScores]:
        outputs, (scores, keys) = encode_with_patch_scores(self.model, encode, images)
        return outputs, VisionScores(scores.flatten(), keys.flatten(0, 1))
