"""Prune2Drive, "A Plug-and-Play Framework for Accelerating Vision-Language Models in Autonomous Driving" (2025)."""

from dataclasses import dataclass

from senna_prune.pruning.base import Scope
from senna_prune.pruning.ordering import FarthestPoints


@dataclass(frozen=True, kw_only=True)
class Prune2Drive(FarthestPoints):
    """Farthest-point sampling of the hidden states entering layer 1, each view on its own.

    Six views: as published. The ratios per view are `view_weights`, equal by default as in the released inference
    script; `examples/search_view_weights.py` searches them on labelled frames. The budget fixes their sum (published:
    9.5 % of each view, rounded down per view). The tuned ratios were not released. On Senna all tokens of a view may
    be cut (published: all but a newline token at its end).
    """

    stage = "inside, once"
    published_layer = 1
    scope: Scope = "per_view"
