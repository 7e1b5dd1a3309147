"""Pruning while the prompt is read: `with prune(model, pruner) as trace: model.generate(...)`.

Hooks stand before the model, before its decoder and before each decoder layer. At boundary `l` the policy says how many
visual tokens enter layer `l` and which; the engine gathers hidden states and positions, pads the batch to the left and
writes the mask. Each layer's cache then holds what entered it, so caches differ in length between layers; in decoding
each layer gets its own positions and mask. Layers before the first cut stay as they are: a pruner that keeps all tokens
changes no bit.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, nn

from senna_prune.engine.calls import Calls
from senna_prune.engine.captured import CapturedDecoder, in_place_of_forward, require_compilable
from senna_prune.engine.decode import DecodeStep, require_dynamic, stop_reading
from senna_prune.engine.decoder import Decoder, before_rotation, find_decoder
from senna_prune.engine.prefill import PromptPass
from senna_prune.engine.state import PruneTrace, pad_left
from senna_prune.errors import PruningError
from senna_prune.hosts.host import find_host, unwrapped
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
            if is_pruned(decoder):
                raise PruningError("this model is in a prune context already", hint="leave it before entering another")
            for handle in context.hooks(model):
                stack.callback(handle.remove)
        stack.enter_context(context.patched(model))
        stack.enter_context(_eagerly if captured is None else in_place_of_forward(decoder, context, captured))
        stack.callback(context.close)
        yield context.trace


class PruneContext(Calls):
    """The hooks of one `prune` context. What they remember of a call belongs to its thread and goes with it; what they
    remember of a prompt is carried by its cache."""

    def __init__(self, decoder: Decoder, *given: Any) -> None:
        super().__init__(*given)
        self.decoder, self.trace, self.key = decoder, PruneTrace(), uuid.uuid4().hex
        self.inside, self.closed, self.changed = set[int](), False, threading.Condition()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise PruningError("a model cannot be copied or pickled inside a prune context", hint="leave the context first")

    def hooks(self, model: nn.Module) -> Iterator[Any]:
        """Register everything, one at a time; the handles are the caller's to remove."""
        yield model.register_forward_pre_hook(self._call, with_kwargs=True)
        yield model.register_forward_hook(self._called)
        for index, layer in enumerate(self.decoder.layers):
            yield layer.register_forward_pre_hook(partial(self._enter, index), with_kwargs=True)
            attention: Any = layer.self_attn
            for name in ("q", "k"):
                yield before_rotation(attention, name).register_forward_hook(partial(self._catch, index, name))
        yield self.decoder.module.register_forward_pre_hook(self._begin, with_kwargs=True)
        yield self.decoder.module.register_forward_hook(self._end, always_call=True)

    def close(self) -> None:
        """Wait for calls of other threads that are inside the decoder, and let none begin."""
        stop_reading()
        with self.changed:
            self.closed = True
            self.changed.wait_for(lambda: self.inside <= {threading.get_ident()})

    def _call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model is called: remember what tells the layout and where the prompt ends."""
        call, cache = self.call, kwargs.get("past_key_values")
        call.inputs = ({"input_ids": args[0]} if args else {}) | kwargs | {"generated": call.generated}
        call.generated, call.decoded, call.columns = 0, False, None
        call.images = (kwargs.get("mm_encoder_outputs") or {}).get("image")
        if cache is not None and cache.get_seq_length() > 0 and self.shows_images():
            raise PruningError(
                "images that follow a prompt which was read before are not pruned",
                hint="read the whole prompt in one pass, without its old cache",
            )

    def _called(self, module: nn.Module, args: Any, output: Any) -> None:
        decoded, self.call.decoded = self.call.decoded, None
        if decoded is False:
            raise PruningError(
                f"{type(module).__name__} ran, but not the decoder that was to be pruned",
                hint="do not replace parts of a model, or run compiled code, inside a prune context",
            )

    def _begin(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The decoder is called, with prompts or with tokens that follow them."""
        call = self.call
        inputs, images, call.inputs, call.images, call.running = call.inputs, call.images, {}, None, None
        call.decoded = True
        with self.changed:
            if self.closed:
                raise PruningError("the prune context was left while the model ran", hint="wait for it inside")
            self.inside.add(threading.get_ident())
        tree, cache, mask = kwargs.pop("token_tree", None), kwargs.get("past_key_values"), kwargs.get("attention_mask")
        tokens = kwargs.get("inputs_embeds")
        if tokens is None:
            tokens = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        if cache is not None:
            require_dynamic(cache)
        if cache is not None and cache.get_seq_length() > 0:
            call.running = DecodeStep(self.decoder, self.key, cache, tree, tokens, mask)
            return args, kwargs
        embeds = tokens if tokens.is_floating_point() else module.get_input_embeddings()(tokens)
        layouts, starts, vision = self.prompts(embeds, mask, inputs, images)
        call.labelled = inputs.get("labels") is not None
        positions, first = kwargs.get("position_ids"), 0 if self.host is None else self.host.first_cut
        call.running = PromptPass(self.decoder, self.pruner, layouts, starts, vision, embeds, positions, first)
        return args, kwargs

    def _enter(self, index: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        running = self.call.running
        if running is None:
            return None
        if args:
            hidden, kwargs = running.enter(index, args[0], kwargs)
            return (hidden, *args[1:]), kwargs
        hidden, kwargs = running.enter(index, kwargs["hidden_states"], kwargs)
        return args, kwargs | {"hidden_states": hidden}

    def _catch(self, index: int, name: str, module: nn.Module, args: Any, output: Tensor) -> None:
        running = self.call.running
        if isinstance(running, PromptPass) and running.capture is not None:
            running.capture.catch(index, name, output)

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        """The decoder is done, or an exception left it; `output` is then None."""
        running, self.call.running = self.call.running, None
        stop_reading()
        with self.changed:
            self.inside.discard(threading.get_ident())
            self.changed.notify_all()
        if isinstance(running, PromptPass) and output is not None:
            prompt = running.finish(self.key)
            if self.call.labelled and prompt.cut:
                self.call.columns = pad_left([sample.state.columns() + 1 for sample in running.samples]) - 1
            self.trace.samples = [sample.trace for sample in running.samples]
            self.trace.cache_lengths = [list(shape.lengths) for shape in prompt.layers]


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


def is_pruned(decoder: Decoder) -> bool:
    """Whether a `prune` context is open on this decoder."""
    hooks = decoder.module._forward_pre_hooks.values()
    return any(isinstance(getattr(hook, "__self__", None), PruneContext) for hook in hooks)


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
