"""Decoders that look like Llama's and attend otherwise: attention rows computed beside them would be wrong."""

from __future__ import annotations

import inspect
import sys
from functools import cache
from typing import Any

NORMALISED = ("Qwen3Attention", "Qwen3MoeAttention", "Qwen3VLTextAttention", "Qwen3VLMoeTextAttention")
"""Attention whose `q_norm` and `k_norm` normalise each head before rotation."""
NORMS = ("q_norm", "qk_norm", "q_layernorm", "query_layernorm")
"""Names of what normalises queries in transformers' models: over other widths, or behind rotation."""


def unlike_llama(decoder: Any, attention: Any) -> str | None:
    """What an attention layer of `decoder` does that the probe does not repeat, or None."""
    kind: Any = type(attention)
    inverse = getattr(decoder.rotary_emb, "inv_freq", None)
    if getattr(attention, "sliding_window", None) or getattr(decoder.config, "sliding_window", None):
        return "slides a window"
    if kind.__name__ not in NORMALISED and any(hasattr(attention, name) for name in NORMS):
        return "normalises queries otherwise than Qwen3"
    partial = inverse is not None and 2 * inverse.numel() != attention.head_dim
    if partial or not getattr(attention, "use_rope", True) or _interleaves(kind):
        return "rotates queries otherwise than Llama"
    return None


@cache
def _interleaves(kind: type) -> bool:
    """Whether the module of an attention class turns neighbours, and not the halves of a head, into each other."""
    rotate_half = getattr(sys.modules[kind.__module__], "rotate_half", None)
    return rotate_half is not None and "::2" in inspect.getsource(rotate_half)
