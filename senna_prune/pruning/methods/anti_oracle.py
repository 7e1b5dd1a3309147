"""Tokens that see no annotated object."""

from dataclasses import dataclass
from typing import ClassVar

from senna_prune.pruning.methods.oracle import Oracle


@dataclass(frozen=True, kw_only=True)
class AntiOracle(Oracle):
    """Control: drops first the tokens that see annotated objects, the nearest object's first; others at even spacing.

    If it costs no accuracy, the model does not look at objects at all.
    """

    sign: ClassVar[int] = -1
