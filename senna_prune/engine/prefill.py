"""Pruning while the prompt is read: `with prune(model, pruner) as trace: model.generate(...)`.

Hooks stand before the model, before its decoder and before each decoder layer. At boundary `l` the policy says how many
visual tokens enter layer `l` and which; the engine gathers hidden states and positions, pads the batch to the left and
writes the mask. Each layer's cache then holds what entered it, so caches differ in length between layers; in decoding
each layer gets its own positions and mask. Layers before the first cut stay as they are: a pruner that keeps all tokens
changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast

from senna_prune.devices import read_together
from senna_prune.engine.captured import CapturedDecoder, require_compilable
from senna_prune.engine.decode import DecodeStep, PromptCache
from senna_prune.engine.decoder import Decoder, find_decoder
from senna_prune.engine.prompt_pass import PromptPass
from senna_prune.engine.trace import PruneTrace
from senna_prune.errors import InputError, PruningError
from senna_prune.hosts.host import (
    VISION_SCORES,
    Host,
    attach_vision_scores,
    find_host,
    one_per_prompt,
    split_vision_scores,
)
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.base import LAST_ATTENTION, NEXT_ATTENTION, TEXT_ATTENTION, VISION, Pruner, VisionScores


@contextmanager
def prune(
    model: nn.Module,
    pruner: Pruner,
    *,
    layouts: Sequence[TokenLayout] | None = None,
    vision: Sequence[VisionScores] | None = None,
    compiled: bool | CapturedDecoder = False,
    padding_side: Literal["left", "right"] | None = None,
) -> Iterator[PruneTrace]:
    """Prune every prefill that `model` runs inside the context: any number of prompts, of any length.

    Works with `generate` (greedy, sampling, beams) and with plain forward calls; on exit, also after an exception, the
    model is as it was. A pruned forward returns logits of the tokens that reached the last layer, padded to the left.
    Without a cache every step reads the whole sequence anew, and what was generated counts as part of the question.
    Layers may lie on several devices (`device_map`).

    Args:
        model: a model with a file in `hosts/`, or any model around a Llama-like decoder if `layouts` is given.
        pruner: the policy.
        layouts: one per sample; None lets the model's host read them off its inputs.
        vision: vision-tower evidence, one per sample; None lets the host compute it if the policy needs it.
        compiled: run single prompts, and the pass over an answer trie, as graphs that are compiled when a length or a
            schedule is first seen. A complexity then acts as one of a few (`pruning.quantised.Quantised`). A
            `CapturedDecoder` keeps its graphs for later contexts of the same model; True makes one for this context.
        padding_side: where shorter prompts of a batch are padded, if `layouts` tell their lengths; None: the host reads
            it off the attention mask, for which it waits.

    Yields:
        The trace, filled anew by each prefill.

    Raises:
        PruningError: the host is not supported, the pruner does not fit it, or evidence that it needs is not there.
    """
    host = find_host(model, required=layouts is None)
    scores = vision is None and VISION in getattr(pruner, "needs", ())
    if host is not None and (scores or layouts is None):
        host.check_geometry(scores)
    decoder = find_decoder(model)
    if is_pruned(decoder.module):
        raise PruningError("this model is in a prune context already", hint="leave it before entering another")
    _require_fit(pruner, decoder)
    captured = (CapturedDecoder() if compiled is True else compiled) or None
    if captured is not None and not captured.graphs:  # with graphs it was found so before
        require_compilable(model)
    pruner = pruner if captured is None else captured.pruner(pruner)
    context = _Context(decoder, pruner, host, layouts, vision, padding_side)
    with ExitStack() as stack:
        for handle in context.hooks(model):
            stack.callback(handle.remove)
        if host is not None:
            stack.enter_context(host.patched_image_encoder(context.encode))
        if captured is not None:
            stack.enter_context(_in_place_of_forward(decoder, context, captured))
        yield context.trace


@contextmanager
def _in_place_of_forward(decoder: Decoder, context: _Context, captured: CapturedDecoder) -> Iterator[None]:
    """Let `captured` run what it can of the decoder's calls."""
    module: Any = decoder.module
    own, eager = module.__dict__.get("forward"), module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden = None if args else _captured(decoder, context, captured, kwargs)
        return eager(*args, **kwargs) if hidden is None else hidden

    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def _captured(decoder: Decoder, context: _Context, captured: CapturedDecoder, kwargs: dict[str, Any]) -> Any:
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
    return any(isinstance(getattr(hook, "__self__", None), _Context) for hook in decoder._forward_pre_hooks.values())


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


class _Context:
    """The hooks of one `prune` context. What they remember of a forward pass lives in `running`, and goes with it."""

    def __init__(
        self,
        decoder: Decoder,
        pruner: Pruner,
        host: Host | None,
        layouts: Sequence[TokenLayout] | None,
        vision: Sequence[VisionScores] | None,
        padding_side: Literal["left", "right"] | None,
    ) -> None:
        self.decoder, self.pruner, self.host = decoder, pruner, host
        self.given_layouts, self.given_vision, self.padding_side = layouts, vision, padding_side
        self.trace = PruneTrace()
        self.inputs: dict[str, Any] = {}
        self.pictures: Any = None
        self.running: PromptPass | DecodeStep | None = None
        self.left: PromptCache | None = None

    def hooks(self, model: nn.Module) -> Iterator[Any]:
        """Register everything, one at a time; the handles are the caller's to remove."""
        yield model.register_forward_pre_hook(self._call, with_kwargs=True)
        for index, layer in enumerate(self.decoder.layers):
            yield layer.register_forward_pre_hook(partial(self._enter, index), with_kwargs=True)
            attention: Any = layer.self_attn
            for name in ("q_proj", "k_proj"):
                yield getattr(attention, name).register_forward_hook(partial(self._catch, index, name))
        yield self.decoder.module.register_forward_pre_hook(self._begin, with_kwargs=True)
        yield self.decoder.module.register_forward_hook(self._end, always_call=True)

    def encode(self, encode: Callable[..., Any], pictures: dict[str, Any]) -> Any:
        """The model encodes images, by `generate` before it is called, or inside the call."""
        if self.host is not None and VISION in self.pruner.needs and self.given_vision is None:
            self.pictures = attach_vision_scores(self.host, encode, pictures)
        else:
            self.pictures = encode(**pictures)
        return self.pictures

    def _call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model is called: remember what tells the layout."""
        self.inputs = ({"input_ids": args[0]} if args else {}) | kwargs
        self.pictures = (kwargs.get("mm_encoder_outputs") or {}).get("image")

    def _begin(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The decoder is called, with prompts or with tokens that follow them."""
        inputs, pictures, self.inputs, self.pictures, self.running = self.inputs, self.pictures, {}, None, None
        tree, cache = kwargs.pop("token_tree", None), kwargs.get("past_key_values")
        if cache is not None and getattr(cache, "is_compileable", False):
            raise PruningError("a static cache cannot hold layers of different lengths", hint="use a dynamic cache")
        if cache is not None and cache.get_seq_length() > 0:
            if pictures is not None:
                raise PruningError(
                    "images that follow a prompt which was read before are not pruned",
                    hint="read the whole prompt in one pass, without prefill_chunk_size",
                )
            self.running = DecodeStep(self.decoder, self.left, cache, tree)
            return args, kwargs
        self.left, embeds = None, kwargs.get("inputs_embeds")
        if embeds is None:
            embeds = module.get_input_embeddings()(kwargs["input_ids"] if "input_ids" in kwargs else args[0])
        lengths, starts, rows = self._prompts(embeds, kwargs.get("attention_mask"), inputs.get("input_ids"))
        layouts = self._layouts(rows, lengths, pictures)
        self.running = PromptPass(
            self.decoder,
            self.pruner,
            layouts,
            starts,
            self._vision(layouts, pictures),
            embeds,
            kwargs.get("position_ids"),
            0 if self.host is None else self.host.first_cut,
        )
        self.trace.samples = [sample.trace for sample in self.running.samples]
        return args, kwargs

    def _prompts(
        self, embeds: Tensor, mask: Tensor | None, ids: Tensor | None
    ) -> tuple[list[int], list[int], list[Tensor]]:
        """Length and first column of each prompt, and its ids where they tell the layout: at most one read."""
        (batch, width), given = embeds.shape[:2], self.given_layouts
        if given is not None and self.padding_side is not None:
            lengths = [layout.length for layout in one_per_prompt(given, batch, "layouts")]
            return lengths, [width - n if self.padding_side == "left" else 0 for n in lengths], []
        read = iter(read_together([one for one in (mask, ids if given is None else None) if one is not None]))
        lengths, starts = spans_of(embeds, None if mask is None else next(read))
        return lengths, starts, [r[s : s + n] for r, s, n in zip(next(read, ()), starts, lengths, strict=False)]

    def _layouts(self, rows: Sequence[Tensor], lengths: Sequence[int], pictures: Any) -> list[TokenLayout]:
        """One layout per prompt: those given, or what the host reads off ids and images."""
        given = self.given_layouts
        if given is None and not rows:
            raise InputError("no input_ids that tell the layout", hint="pass them to the model, or layouts= to prune()")
        if given is None:
            assert self.host is not None
            given = self.host.layouts(rows, pictures)
        layouts = one_per_prompt(given, len(lengths), "layouts")
        for layout, length in zip(layouts, lengths, strict=True):
            if layout.length != length:
                raise InputError(f"a layout of {layout.length} tokens was given for a prompt of {length}")
        return layouts

    def _vision(self, layouts: Sequence[TokenLayout], pictures: Any) -> list[VisionScores] | None:
        """Evidence per prompt, if the policy needs it and there is any."""
        if VISION not in self.pruner.needs:
            return None
        if self.given_vision is not None:
            return one_per_prompt(self.given_vision, len(layouts), "vision")
        if self.host is None and any(layout.num_visual for layout in layouts):
            raise PruningError(
                f"method {self.pruner.name!r} needs the vision tower's attention, which no file in hosts/ reads off "
                "this model",
                hint="pass vision= to prune()",
            )
        if pictures is None:
            return None
        if VISION_SCORES not in pictures:
            raise PruningError(
                f"method {self.pruner.name!r} needs to see the vision tower at work, but the images were encoded "
                "outside the prune context",
                hint="call the model with pixel_values inside it, or pass vision= to prune()",
            )
        return split_vision_scores(pictures[VISION_SCORES], layouts)

    def _enter(self, index: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.running is None:
            return None
        if args:
            hidden, kwargs = self.running.enter(index, args[0], kwargs)
            return (hidden, *args[1:]), kwargs
        hidden, kwargs = self.running.enter(index, kwargs["hidden_states"], kwargs)
        return args, kwargs | {"hidden_states": hidden}

    def _catch(self, index: int, name: str, module: nn.Module, args: Any, output: Tensor) -> None:
        if isinstance(self.running, PromptPass) and self.running.capture is not None:
            self.running.capture.catch(index, name, output)

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        """The decoder is done, or an exception left it; `output` is then None."""
        if isinstance(self.running, PromptPass) and output is not None:
            self.left = self.running.leave()
            self.trace.cache_lengths = [list(shape.lengths) for shape in self.left.layers]
        self.running = None


def spans_of(embeds: Tensor, mask: Tensor | None) -> tuple[list[int], list[int]]:
    """Length of each prompt of a padded batch (batch, width, d), and the column at which it begins.

    Raises:
        PruningError: the mask is not (batch, width), or does not mask one side alone.
    """
    batch, width = embeds.shape[:2]
    if mask is None:
        return [width] * batch, [0] * batch
    if mask.ndim != 2 or mask.shape[1] != width:
        raise PruningError("pruning needs the two-dimensional attention mask of the whole prompt")
    ones = mask.int()
    ends = width - ones.flip(1).argmax(dim=1)
    lengths, starts, last = torch.stack([ones.sum(dim=1), ones.argmax(dim=1), ends]).tolist()
    if any(n == 0 or start + n != end for start, n, end in zip(starts, lengths, last, strict=True)):
        raise PruningError("the attention mask has a gap or an empty row", hint="pad on one side only")
    return lengths, starts
