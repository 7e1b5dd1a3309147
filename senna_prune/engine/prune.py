"""Pruning while the prompt is read: `with prune(model, pruner) as trace: model.generate(...)`.

Hooks stand before the model, before its decoder and before each decoder layer. At boundary `l` the policy says how many
visual tokens enter layer `l` and which; the engine gathers hidden states and positions, pads the batch to the left and
writes the mask. Each layer's cache then holds what entered it, so caches differ in length between layers; in decoding
each layer gets its own positions and mask. Layers before the first cut stay as they are: a pruner that keeps all tokens
changes no bit.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, cast

import torch
from torch import nn
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast

from senna_prune.engine.captured import CapturedDecoder, require_compilable
from senna_prune.engine.decode import DecodeStep
from senna_prune.engine.decoder import Decoder, find_decoder
from senna_prune.engine.prefill import PruneContext
from senna_prune.engine.prompt_pass import PromptPass
from senna_prune.engine.trace import PruneTrace
from senna_prune.errors import PruningError
from senna_prune.hosts.host import find_host, replaced, unwrapped
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.base import LAST_ATTENTION, NEXT_ATTENTION, TEXT_ATTENTION, VISION, Pruner, VisionScores

_entering = threading.RLock()
"""Held while a context is entered or left."""


@contextmanager
def prune(
    model: nn.Module,
    pruner: Pruner,
    *,
    layouts: Sequence[TokenLayout] | None = None,
    vision: Sequence[VisionScores] | None = None,
    prompt_lengths: Sequence[int] | None = None,
    compiled: bool | CapturedDecoder = False,
    padding_side: Literal["left", "right"] | None = None,
) -> Iterator[PruneTrace]:
    """Prune every prefill that `model` runs inside the context: any number of prompts, of any length, in any thread.

    Works with `generate` (greedy, sampling, beams, assisted) and with plain forward calls; on exit, also after an
    exception, the model is as it was. A pruned forward returns logits of the tokens that reached the last layer, padded
    to the left; given labels, its loss is that of these tokens. Layers may lie on several devices (`device_map`).

    Which tokens are kept depends on the prompt alone. It ends where `prompt_lengths` say, or the first label that is
    not -100 stands, or `logits_to_keep` begins: with k logits, k - 1 tokens from the end. Where none of them tells, all
    text counts as prompt: in a plain forward call with an answer appended, and in `generate(use_cache=False)`, whose
    every step reads the whole sequence anew.

    Inside, whatever `torch.compile` has made runs eagerly, in all threads: compiled code does not look at hooks. A
    cache that was filled inside can be continued only there. The model cannot be copied or pickled.

    Args:
        model: a model with a file in `hosts/`, or any model around a Llama-like decoder if `layouts` is given; compiled
            or not, and also as peft or `DistributedDataParallel` wrap it.
        pruner: the policy.
        layouts: one per sample; None lets the model's host read them off its inputs.
        vision: scores of the vision tower, one per sample; None lets the host compute it if the policy needs it.
        prompt_lengths: tokens of each sample's prompt without padding; what follows is an answer that is scored.
        compiled: run single prompts, and the pass over an answer trie, as graphs that are compiled when a length or a
            schedule is first seen. A complexity then acts as one of a few (`pruning.quantised.Quantised`). A
            `CapturedDecoder` keeps its graphs for later contexts of the same model; True makes one for this context.
        padding_side: where shorter prompts of a batch are padded, if `layouts` tell their lengths; None: the host reads
            it off the attention mask, for which it waits.

    Yields:
        The trace, filled anew by each prefill.

    Raises:
        PruningError: the host is not supported, the pruner does not fit it, or vision scores that it needs are missing.
    """
    model = unwrapped(model)
    host = find_host(model, required=layouts is None)
    scores = vision is None and VISION in getattr(pruner, "needs", ())
    if host is not None and (scores or layouts is None):
        host.check_geometry(scores)
    decoder = find_decoder(model)
    _require_fit(pruner, decoder)
    captured = (CapturedDecoder() if compiled is True else compiled) or None
    if captured is not None and not captured.graphs:  # with graphs it was found so before
        require_compilable(model)
    pruner = pruner if captured is None else captured.pruner(pruner)
    context = PruneContext(decoder, pruner, host, layouts, vision, prompt_lengths, padding_side)
    with ExitStack() as stack:
        with _entering:
            if is_pruned(decoder.module):
                raise PruningError("this model is in a prune context already", hint="leave it before entering another")
            for handle in context.hooks(model):
                stack.callback(handle.remove)
        stack.enter_context(context.patched(model))
        stack.enter_context(_eagerly if captured is None else _in_place_of_forward(decoder, context, captured))
        stack.callback(context.close)
        yield context.trace


class _Eagerly:
    """What is compiled runs eagerly while at least one context is open."""

    open = 0
    stance: Any

    def __enter__(self) -> None:
        with _entering:
            if not self.open:
                self.stance = torch.compiler.set_stance("force_eager")
            self.open += 1

    def __exit__(self, *error: object) -> None:
        with _entering:
            self.open -= 1
            if not self.open:
                self.stance.__exit__(None, None, None)


_eagerly = _Eagerly()


@contextmanager
def _in_place_of_forward(decoder: Decoder, context: PruneContext, captured: CapturedDecoder) -> Iterator[None]:
    """Let `captured` run what it can of the decoder's calls."""
    module: Any = decoder.module
    eager = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden = None if args else _captured(decoder, context, captured, kwargs)
        return eager(*args, **kwargs) if hidden is None else hidden

    with replaced(module, "forward", forward):
        yield


def _captured(decoder: Decoder, context: PruneContext, captured: CapturedDecoder, kwargs: dict[str, Any]) -> Any:
    """Output of the decoder, or None where its call is none that can be captured: several prompts, padding, other
    attention than SDPA, intermediate results, no cache."""
    running, cache, module = context.running, kwargs.get("past_key_values"), decoder.module
    tracked = any(kwargs.get(name) for name in ("output_hidden_states", "output_attentions"))
    if decoder.attention != "sdpa" or decoder.multi_axis or tracked or kwargs.get("use_cache") is False:
        return None
    embeds = kwargs.get("inputs_embeds")
    if embeds is None:
        embeds = cast(Any, module).get_input_embeddings()(kwargs["input_ids"])
    if embeds.shape[0] > 1:
        return None
    if isinstance(running, PromptPass) and running.samples[0].state.length == embeds.shape[1]:
        cache, places = DynamicCache() if cache is None else cache, kwargs.get("position_ids")
        tables = decoder.rotary(embeds, running.places[None] if places is None else places)
        hidden = captured.prompt(decoder, context, embeds, tables, cache)
    elif isinstance(running, DecodeStep) and running.tree is not None:
        hidden = captured.readout(decoder, context, embeds, cache)
    else:
        return None
    return None if hidden is None else BaseModelOutputWithPast(last_hidden_state=hidden, past_key_values=cache)


def is_pruned(decoder: nn.Module) -> bool:
    """Whether a `prune` context is open on this decoder."""
    return any(
        isinstance(getattr(hook, "__self__", None), PruneContext) for hook in decoder._forward_pre_hooks.values()
    )


def _require_fit(pruner: Any, decoder: Decoder) -> None:
    if not all(hasattr(pruner, part) for part in ("plan", "select", "needs", "positions", "measured_layer")):
        raise PruningError(f"{type(pruner).__name__} is not a pruner", hint="build one with make_pruner or pruner_for")
    if len({TEXT_ATTENTION, LAST_ATTENTION, NEXT_ATTENTION} & pruner.needs) > 1:
        hint = "the last of the text rows is that of the last prompt token"
        raise PruningError(f"method {pruner.name!r} needs more than one kind of attention", where="needs", hint=hint)
    built_for = getattr(pruner, "num_layers", None)
    if built_for not in (None, decoder.num_layers):
        raise PruningError(
            f"method {pruner.name!r} was built for {built_for} decoder layers, this model has {decoder.num_layers}",
            hint="build it with pruner_for(model, ...)",
        )
    if decoder.multi_axis and pruner.positions == "repacked":
        raise PruningError(
            "positions of this model follow from the images and cannot be renumbered (M-RoPE)",
            where="option positions",
            hint="use original",
        )
