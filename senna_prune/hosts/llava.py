"""LLaVA-1.5: every image is the patches of its tower, in one run of placeholders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from senna_prune.hosts.host import Host
from senna_prune.hosts.tower import look_at_patches
from senna_prune.pruning.base import VisionScores


class LlavaHost(Host):
    """See `Host`."""

    def look(self, encode: Callable[..., Any], pictures: dict[str, Any]) -> tuple[Any, VisionScores]:
        outputs, (scores, keys) = look_at_patches(self.model, encode, pictures)
        return outputs, VisionScores(scores.flatten(), keys.flatten(0, 1))
