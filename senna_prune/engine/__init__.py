"""The only code that touches decoder layers, the KV cache and positions."""

from senna_prune.engine.prune import prune
from senna_prune.engine.state import PruneTrace, SampleTrace

__all__ = ["PruneTrace", "SampleTrace", "prune"]
