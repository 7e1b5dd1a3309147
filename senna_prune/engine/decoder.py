"""What the engine asks of a host decoder: Llama-like layers, a rotary embedding, and attention rows of a few queries.

Queries are what `q_proj`, or `q_norm` behind it, produced in the layer just run, caught by a hook; keys are what it put
into its cache, or what `k_proj` or `k_norm` produced where there is none. Only the chosen rows are multiplied and
softmaxed (float32, over the whole causal row): SDPA and flash stay on, no (n, n) matrix exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from senna_prune.devices import constant, moved
from senna_prune.errors import InputError, PruningError
from senna_prune.hosts.host import unwrapped
from senna_prune.hosts.unlike import unlike_llama

SUPPORTED_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3")


@dataclass(frozen=True)
class Decoder:
    """A decoder whose parts the engine has found.

    Attributes:
        module: the module that embeds positions and runs the layers, e.g. a `LlamaModel`.
        layers: its decoder layers, each with `input_layernorm` and `self_attn.{q_proj,k_proj}`.
    """

    module: Any
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
        parameters = getattr(self.module.config, "rope_parameters", None) or {}
        return "mrope_section" in parameters or hasattr(self.module.rotary_emb, "mrope_section")

    @property
    def device(self) -> torch.device:
        """Where the last layer is."""
        return next(self.layers[-1].parameters()).device

    def rotary(self, like: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine tables, each (batch, n, head_dim), for `positions` of shape (batch, n) of text tokens."""
        if self.multi_axis:
            positions = positions.expand(3, *positions.shape)
        cos, sin = self.module.rotary_emb(like, position_ids=positions)
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
        if (unlike := unlike_llama(module, attention)) is not None:
            raise PruningError(
                f"{type(attention).__name__} {unlike}, which the probe does not repeat",
                hint="use a host whose attention is Llama's or Qwen3's",
            )
    decoder = Decoder(module, list(layers))
    if decoder.attention not in SUPPORTED_ATTENTION:
        raise PruningError(
            f"attention implementation {decoder.attention!r} is not supported",
            hint="load the model with attn_implementation " + ", ".join(SUPPORTED_ATTENTION),
        )
    return decoder


def before_rotation(attention: Any, name: str) -> nn.Module:
    """The part of an attention layer that gives what is rotated, of `name` "q" or "k": its norm, or its projection."""
    part: nn.Module = getattr(attention, f"{name}_norm", None) or getattr(attention, f"{name}_proj")
    return part


def attention_mask(
    spans: Sequence[tuple[int, int]],
    width: int,
    queries: int,
    *,
    added: int = 0,
    implementation: str,
    dtype: torch.dtype,
    device: torch.device,
    among_queries: Tensor | None = None,
) -> Tensor | None:
    """Mask of a padded batch in the form the attention implementation reads.

    Args:
        spans: first and last + 1 real column per sample among the first `width` columns; the rest of these is padding.
        width: columns of the prompt, padding included.
        queries: rows; they are the last `queries` columns.
        added: columns behind the prompt, all real.
        among_queries: which of the last columns each row sees, boolean (queries, queries); None: causal.

    Returns:
        None where the implementation's own causal rule suffices; else, with keys = width + added, flash: (batch, keys)
        of ones and zeros; sdpa: boolean (batch, 1, queries, keys), True = attend; eager: the same, additive.
    """
    keys, padded, flash = width + added, any(e - b < width for b, e in spans), implementation.startswith("flash")
    if among_queries is not None and flash:
        raise PruningError("flash attention takes no tree mask", hint="read out with sdpa or eager attention")
    built_in = flash or queries == 1 or (queries == keys and implementation == "sdpa")
    if built_in and among_queries is None and not padded:
        return None
    bounds = constant(tuple(spans), torch.long, device)
    column = torch.arange(keys, device=device)
    real = ((column >= bounds[:, :1]) & (column < bounds[:, 1:])) | (column >= width)
    if flash:
        return real.long()
    row = torch.arange(keys - queries, keys, device=device)
    order = column <= row[:, None]
    if among_queries is not None:
        order[:, keys - queries :] = among_queries
    # A padding row attends to itself: a row with nothing to attend to would spread NaN through the values.
    allowed = ((order & real[:, None]) | (column == row[:, None]))[:, None]
    if implementation == "sdpa":
        return allowed
    return torch.zeros(allowed.shape, dtype=dtype, device=device).masked_fill(~allowed, torch.finfo(dtype).min)


def not_finite(tensor: Tensor) -> InputError:
    """The error for a model whose numbers, of which `tensor` is one, are not finite: float16 overflows easily, and in
    other types the weights are broken."""
    kind = tensor.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype
    problem = "the model's output is not finite"
    if dtype == torch.float16:
        return InputError(f"{problem}: float16 overflows", hint="load it in bfloat16 or float32")
    hint = "check the weights and the settings of the checkpoint"
    return InputError(f"{problem} in {str(dtype).removeprefix('torch.')}", hint=hint)


def take(tokens: Tensor, places: Tensor | int) -> Tensor:
    """Rows of `tokens`, shape (n, ...): those at `places`, or the last so many."""
    if isinstance(places, int):
        return tokens[tokens.shape[0] - places :]
    return tokens.index_select(0, places)


def rotated(projected: Tensor, head_dim: int, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries or keys (n, heads, head_dim), or (n, heads * head_dim), after RoPE in the Llama layout, (heads, n,
    head_dim).

    `cos`, `sin`: (n, head_dim).
    """
    states, half = projected.reshape(len(projected), -1, head_dim).transpose(-3, -2), head_dim // 2
    turned = states * cos
    turned[..., :half].addcmul_(states[..., half:], sin[..., :half], value=-1)
    turned[..., half:].addcmul_(states[..., :half], sin[..., half:])
    return turned


def attention_rows(queries: Tensor, keys: Tensor, bias: Tensor, scaling: float) -> Tensor:
    """Softmax attention of some rows over a causal sequence.

    Args:
        queries: rotated queries of the rows, (heads, rows, head_dim).
        keys: rotated keys of the whole sequence, (key_value_heads, n, head_dim).
        bias: 0 where a row may look, -inf at columns ahead of it; broadcasts to (heads // key_value_heads * rows, n).
        scaling: usually head_dim ** -0.5.

    Returns:
        Attention, float32, (heads, rows, n).
    """
    (heads, rows, head_dim), n = queries.shape, keys.shape[1]
    grouped = queries.reshape(keys.shape[0], heads // keys.shape[0] * rows, head_dim)
    # Scaling, mask and product in one operation.
    logits = torch.baddbmm(bias, grouped, keys.transpose(-1, -2), alpha=scaling).view(heads, rows, n)
    return logits.softmax(dim=-1, dtype=torch.float32)


class Capture:
    """The projections of one layer, and the attention rows they give.

    Args:
        decoder, layer: where the layer is.
        tables: cosine and sine it runs with, each (batch or 1, width, head_dim).
        cache: the cache it fills, or None.
        biases: masks of earlier layers, to be used again and added to.
    """

    def __init__(
        self, decoder: Decoder, layer: int, tables: tuple[Tensor, Tensor], cache: Any, biases: dict[Any, Tensor]
    ) -> None:
        self.attention: Any = decoder.layers[layer].self_attn
        self.layer, self.tables, self.cache, self.biases = layer, tables, cache, biases
        self.caught: dict[str, Tensor] = {}

    def catch(self, layer: int, name: str, output: Tensor) -> None:
        """Keep what `before_rotation` of `layer` produced, (batch, width, ...), if it will be read."""
        if layer == self.layer and (name == "q" or self.cache is None):
            self.caught[name] = output

    def rows(self, sample: int, span: slice, places: Tensor | int) -> Tensor:
        """Attention rows of one sample, (heads, rows, n), float32.

        Args:
            sample: row of the batch.
            span: the n columns that hold the sample; padding is outside.
            places: query tokens, as places in the sample's own sequence, (rows,), or how many of its last ones.
        """
        keys, queries = self.keys(sample, span), self._rotated("q", sample, span, places)
        return attention_rows(queries, keys, self._bias(places, keys, queries.shape[0]), self.attention.scaling)

    def keys(self, sample: int, span: slice) -> Tensor:
        """Keys of one sample after RoPE, (key_value_heads, n, head_dim); `sample` and `span` as in `rows`."""
        if self.cache is not None:
            return self.cache.layers[self.layer].keys[sample, :, span]
        return self._rotated("k", sample, span, span.stop - span.start)

    def _rotated(self, name: str, sample: int, span: slice, places: Tensor | int) -> Tensor:
        states = self.caught[name][sample, span]
        cos, sin = (moved(table[sample if len(table) > 1 else 0, span], states.device) for table in self.tables)
        return rotated(take(states, places), self.attention.head_dim, take(cos, places), take(sin, places))

    def _bias(self, places: Tensor | int, keys: Tensor, heads: int) -> Tensor:
        """-inf at the columns ahead of each row, 0 elsewhere, once for every query head of a key's group."""
        group, n = heads // keys.shape[0], keys.shape[1]
        if isinstance(places, Tensor):
            ahead = torch.arange(n, device=keys.device) > places[:, None]
            return keys.new_zeros(ahead.shape).masked_fill_(ahead, -torch.inf).repeat(group, 1)
        # Rows at the end look the same from there in a sequence of any length.
        known = self.biases.get((places, keys.device))
        if known is None or known.shape[1] < n:
            known = keys.new_full((places, n), -torch.inf).triu_(n - places + 1).repeat(group, 1)
            self.biases[places, keys.device] = known
        return known[:, known.shape[1] - n :]


def next_rows(decoder: Decoder, layer: int, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Row of the last token that `layer`, not yet run, would compute on `hidden`, shape (n, d), with its norm and
    projections.

    `cos`, `sin` (n, head_dim). Returns (heads, 1, n), float32.
    """
    module: Any = decoder.layers[layer]
    attention = module.self_attn
    normed = module.input_layernorm(hidden)
    cos, sin = moved(cos, normed.device), moved(sin, normed.device)
    queries, keys = attention.q_proj(normed[-1:]), attention.k_proj(normed)
    if hasattr(attention, "q_norm"):
        shape = (-1, attention.head_dim)
        queries, keys = attention.q_norm(queries.unflatten(-1, shape)), attention.k_norm(keys.unflatten(-1, shape))
    queries = rotated(queries, attention.head_dim, cos[-1:], sin[-1:])
    keys = rotated(keys, attention.head_dim, cos, sin)
    return moved(attention_rows(queries, keys, normed.new_zeros(()), attention.scaling), hidden.device)
