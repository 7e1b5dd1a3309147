"""What the engine asks of a host decoder, and nothing more: Llama-like layers, rotary embedding, a growing cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from senna_prune.devices import moved
from senna_prune.errors import PruningError
from senna_prune.hosts.host import unwrapped

SUPPORTED_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3")


@dataclass(frozen=True)
class Decoder:
    """A decoder whose parts the engine has found.

    Attributes:
        module: the module that embeds positions and runs the layers, e.g. a `LlamaModel`.
        layers: its decoder layers, each with `input_layernorm` and `self_attn.{q_proj,k_proj}`.
    """

    module: nn.Module
    layers: list[nn.Module]

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def attention(self) -> str:
        """Name of the attention implementation in use."""
        return str(getattr(self.module.config, "_attn_implementation", None) or "eager")

    @property
    def multi_axis(self) -> bool:
        """Whether a position is a time, a height and a width (M-RoPE). The positions of visual tokens then follow from
        their images: tables may be sliced, never computed from a token's place in the sequence."""
        return "mrope_section" in (getattr(self.module.config, "rope_parameters", None) or {})

    @property
    def device(self) -> torch.device:
        """Where the last layer is."""
        return next(self.layers[-1].parameters()).device

    def normalised(self, hidden: Tensor) -> Tensor:
        """What the decoder gives out for the last layer's hidden states, (batch, n, d)."""
        module: Any = self.module
        return module.norm(hidden)

    def rotary(self, like: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine tables, each (batch, n, head_dim), for `positions` of shape (batch, n) of text tokens."""
        module: Any = self.module
        if self.multi_axis:
            positions = positions.expand(3, *positions.shape)
        cos, sin = module.rotary_emb(like, position_ids=positions)
        return moved(cos, like.device), moved(sin, like.device)

    def final_norm(self, hidden: Tensor) -> Tensor:
        """Hidden states (n, d) under the norm behind the last layer.

        Raises:
            PruningError: the decoder has none.
        """
        norm: Any = getattr(self.module, "norm", None)
        if norm is None:
            raise PruningError(f"{type(self.module).__name__} has no final norm, which the method asks for")
        # Weights that accelerate keeps elsewhere are on `meta`; its hook then brings both together.
        device = next((weight.device for weight in norm.parameters() if not weight.is_meta), hidden.device)
        return moved(norm(moved(hidden, device)), hidden.device)


def find_decoder(model: nn.Module) -> Decoder:
    """The Llama-like decoder inside `model` (or `model` itself).

    Raises:
        PruningError: there is none, or its attention implementation takes masks this engine cannot write.
    """
    host: Any = unwrapped(model)
    module = unwrapped(host.get_decoder() if hasattr(host, "get_decoder") else host)
    layers = getattr(module, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers) or not hasattr(module, "rotary_emb"):
        raise PruningError(
            f"{type(host).__name__} holds no Llama-like decoder (layers + rotary_emb)",
            hint="pass a Llama-like model, or its decoder",
        )
    for number, layer in enumerate(layers):
        attention = getattr(layer, "self_attn", None)
        parts = ("q_proj", "k_proj", "head_dim", "scaling")
        if not hasattr(layer, "input_layernorm") or not all(hasattr(attention, part) for part in parts):
            raise PruningError(f"layer {number} of {type(module).__name__} is not Llama-like ({', '.join(parts)})")
        window = getattr(attention, "sliding_window", None) or getattr(module.config, "sliding_window", None)
        if window or hasattr(attention, "q_norm"):
            raise PruningError(
                f"{type(attention).__name__} normalises queries or slides a window, which the probe does not repeat",
                hint="use a Llama-like host without them",
            )
    decoder = Decoder(module, list(layers))
    if decoder.attention not in SUPPORTED_ATTENTION:
        raise PruningError(
            f"attention implementation {decoder.attention!r} is not supported",
            hint="load the model with attn_implementation " + ", ".join(SUPPORTED_ATTENTION),
        )
    return decoder


def joined(tables: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Cosine and sine as a decoder gives them to its layers, each (batch or 1, width, head_dim).

    Raises:
        PruningError: they hold three axes of positions, (3, batch, width, head_dim).
    """
    if tables[0].ndim > 3:
        raise PruningError(
            "this release of transformers leaves it to each layer to join the three axes of positions (M-RoPE)",
            hint="install transformers 5.18 or newer",
        )
    return tables


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding in the Llama layout. `states` (..., heads, n, head_dim); `cos`, `sin` (..., n, head_dim)."""
    half = states.shape[-1] // 2
    cos, sin = cos.unsqueeze(-3), sin.unsqueeze(-3)
    turned = states * cos
    turned[..., :half].addcmul_(states[..., half:], sin[..., :half], value=-1)
    turned[..., half:].addcmul_(states[..., :half], sin[..., half:])
    return turned


def split_heads(projected: Tensor, head_dim: int) -> Tensor:
    """(..., n, heads * head_dim) -> (..., heads, n, head_dim)."""
    return projected.unflatten(-1, (-1, head_dim)).transpose(-3, -2)
