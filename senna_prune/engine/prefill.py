"""Pruning while the prompt is read: `with prune(model, pruner) as trace: model.generate(...)`.

Hooks stand before the decoder and before each of its layers. At boundary `l` the policy says how many visual tokens
enter layer `l` and which; the engine gathers hidden states and positions, pads the batch to the left and writes the
mask. Each layer's cache then simply holds what entered it, so caches are ragged over layers; in decoding each layer
gets its own positions and mask. Layers before the first cut stay exactly as they are: a keep-all pruner changes no bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from senna_prune.engine.decode import DecodeShapes, LayerShape
from senna_prune.engine.decoder import Decoder, find_decoder
from senna_prune.engine.host import HostInputs
from senna_prune.engine.masks import attention_mask, pad_left
from senna_prune.engine.observe import Observer
from senna_prune.engine.sequence import TokenState
from senna_prune.engine.trace import PruneTrace, SampleTrace
from senna_prune.errors import PruningError
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.interface import LayerPlan, VisionEvidence
from senna_prune.pruning.pruner import Pruner


@contextmanager
def prune(
    model: nn.Module,
    pruner: Pruner,
    *,
    layouts: Sequence[TokenLayout] | None = None,
    vision: Sequence[VisionEvidence] | None = None,
) -> Iterator[PruneTrace]:
    """Prune every prefill that `model` runs inside the context.

    Works with `generate` (greedy, sampling, beams) and with plain forward calls; on exit, also after an exception, the
    model is as it was. A pruned forward returns logits of the tokens that reached the last layer, padded to the left.
    Without a cache every step reads the whole sequence anew, and what was generated counts as part of the question.

    Args:
        model: `SennaForConditionalGeneration`, or any model around a Llama-like decoder if `layouts` is given.
        pruner: the policy.
        layouts: one per sample; None reads them off Senna's image placeholders in `input_ids`.
        vision: vision-tower evidence, one per sample; None computes it from `pixel_values` if the policy needs it.

    Yields:
        The trace, filled anew by each prefill.

    Raises:
        PruningError: the host is not supported, or the policy needs evidence that is not there.
    """
    decoder = find_decoder(model)
    if is_pruned(decoder.module):
        raise PruningError("this model is in a prune context already", hint="leave it before entering another")
    prefill = Prefill(model, decoder, pruner, HostInputs(model, pruner, layouts, vision))
    with ExitStack() as stack:
        for handle in prefill.hooks():
            stack.callback(handle.remove)
        stack.callback(prefill.release)
        yield prefill.trace


def is_pruned(decoder: nn.Module) -> bool:
    """Whether a `prune` context is open on this decoder."""
    return any(isinstance(getattr(hook, "__self__", None), Prefill) for hook in decoder._forward_pre_hooks.values())


class Prefill:
    """The hooks of one `prune` context and what they remember between layers of one forward pass."""

    def __init__(self, model: nn.Module, decoder: Decoder, pruner: Pruner, host: HostInputs) -> None:
        self.model, self.decoder, self.pruner, self.host = model, decoder, pruner, host
        self.trace = PruneTrace()
        self.observer = Observer(decoder, pruner)
        self.decode = DecodeShapes(decoder)
        self.states: list[TokenState] = []
        self.plans: list[LayerPlan] = []
        self.starts: list[int] = []
        self.overrides: dict[str, Any] = {}
        self.running = False

    def hooks(self) -> Iterator[Any]:
        """Register everything, one at a time; the handles are the caller's to remove."""
        yield from self.host.hooks()
        yield from self.observer.probe.hooks()
        module = self.decoder.module
        yield module.register_forward_pre_hook(self._begin, with_kwargs=True)
        for index, layer in enumerate(self.decoder.layers):
            yield layer.register_forward_pre_hook(self._layer_hook(index), with_kwargs=True)
        yield module.register_forward_hook(self._end, always_call=True)

    def release(self) -> None:
        """Drop every tensor of the last forward pass."""
        self.states, self.plans, self.starts, self.overrides, self.running = [], [], [], {}, False
        self.observer.release()
        self.host.release()

    def _begin(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tree = kwargs.pop("token_tree", None)
        cache = kwargs.get("past_key_values")
        if cache is not None and getattr(cache, "is_compileable", False):
            raise PruningError("a static cache cannot hold layers of different lengths", hint="use a dynamic cache")
        if cache is not None and cache.get_seq_length() > 0:
            self.running = False
            self.decode.begin(cache, tree)
            return args, kwargs
        embeds = kwargs.get("inputs_embeds")
        if embeds is None:
            embeds = module.get_input_embeddings()(kwargs["input_ids"] if "input_ids" in kwargs else args[0])
        layouts, self.starts = self.host.layouts_for(embeds, kwargs.get("attention_mask"))
        num_layers = self.decoder.num_layers
        self.states = [TokenState.start(layout, embeds.device) for layout in layouts]
        self.plans = [self.pruner.plan(layout.num_visual, num_layers) for layout in layouts]
        self.trace.samples = [
            SampleTrace(plan, layout.num_visual, len(layout.text), len(layout.views))
            for plan, layout in zip(self.plans, layouts, strict=True)
        ]
        self.observer.begin(embeds, self.states, self.starts, self.host.evidence(len(layouts), embeds.device))
        lengths = [layout.length for layout in layouts]
        ends = torch.tensor([start + length for start, length in zip(self.starts, lengths, strict=True)])
        ends, positions = ends.to(embeds.device, non_blocking=True), kwargs.get("position_ids")
        if positions is not None:
            ends = positions.expand(len(layouts), -1).gather(1, ends[:, None] - 1).squeeze(1) + 1
        self.decode.reset(lengths, ends, self.pruner.positions == "repacked")
        self.overrides, self.running = {}, True
        return args, kwargs

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.running:
            for sample, plan in zip(self.trace.samples, self.plans, strict=True):
                sample.plan = plan
            self.trace.cache_lengths = self.decode.lengths()
        self.decode.end()
        self.release()

    def _layer_hook(self, index: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            hidden = args[0] if args else kwargs["hidden_states"]
            if not self.running:
                return args, kwargs | self.decode.overrides(index, hidden)
            hidden = self._enter(index, hidden)
            kwargs, cache = kwargs | self.overrides, kwargs.get("past_key_values")
            ends = [start + state.length for start, state in zip(self.starts, self.states, strict=True)]
            spans = tuple(zip(self.starts, ends, strict=True))
            self.decode.record(index, LayerShape(spans, hidden.shape[1], bool(self.overrides)), cache)
            self.observer.watch(index, self.plans, kwargs["position_embeddings"], cache)
            if args:
                return (hidden, *args[1:]), kwargs
            return args, kwargs | {"hidden_states": hidden}

        return hook

    def _enter(self, layer: int, hidden: Tensor) -> Tensor:
        """Decide and carry out boundary `layer`; returns the hidden states that enter it."""
        complexity = self.pruner.complexity
        if complexity is not None and layer == complexity.layer + 1:
            self._measure(layer, hidden)
        rows: dict[int, Tensor] = {}
        for i, (state, plan) in enumerate(zip(self.states, self.plans, strict=True)):
            if plan.tokens[layer] == state.num_visual and not plan.merged[layer]:
                continue
            own = hidden[i, self.starts[i] : self.starts[i] + state.length]
            observation = self.observer.observe(i, layer, state, self.starts[i], own)
            selection = self.pruner.select(observation, plan.tokens[layer], plan.merged[layer])
            self.states[i], rows[i] = state.apply(selection, own, layer)
            if self.states[i].num_visual != plan.tokens[layer]:
                raise PruningError(
                    f"method {self.pruner.name!r} kept {self.states[i].num_visual} tokens at layer {layer}, "
                    f"its plan says {plan.tokens[layer]}"
                )
        if rows:
            for i, state in enumerate(self.states):
                if i not in rows:
                    rows[i] = hidden[i, self.starts[i] : self.starts[i] + state.length]
            hidden = pad_left([rows[i] for i in range(len(self.states))])
            self.overrides = self._write_overrides(hidden)
        for sample, state in zip(self.trace.samples, self.states, strict=True):
            sample.origins.append(state.origin)
            sample.views.append(state.views)
        return hidden

    def _measure(self, layer: int, hidden: Tensor) -> None:
        """Measure every sample's complexity and fix its plan. The one host sync of a prefill."""
        complexity = self.pruner.complexity
        assert complexity is not None
        measured = []
        for i, state in enumerate(self.states):
            own = hidden[i, self.starts[i] : self.starts[i] + state.length]
            observation = self.observer.observe(i, layer, state, self.starts[i], own, measuring=True)
            measured.append(complexity.measure(observation).float())
        values = torch.stack(measured).tolist()
        num_layers = self.decoder.num_layers
        for i, value in enumerate(values):
            self.plans[i] = self.pruner.plan(self.trace.samples[i].num_visual, num_layers, value)
            self.trace.samples[i].complexity = value

    def _write_overrides(self, hidden: Tensor) -> dict[str, Any]:
        """Mask and rotary tables for a batch that has been cut at least once."""
        lengths = [state.length for state in self.states]
        width, device = hidden.shape[1], hidden.device
        self.starts = [width - length for length in lengths]
        places, repacked = self.observer.places, self.pruner.positions == "repacked"
        assert places is not None
        if repacked and min(lengths) == width:
            tables = self.observer.rotary_tables(width)
        else:
            positions = [places[: state.length] if repacked else state.positions() for state in self.states]
            tables = self.observer.rotary_tables(pad_left(positions))
        implementation = self.decoder.attention
        return {
            "attention_mask": attention_mask(
                [(start, width) for start in self.starts],
                width,
                width,
                implementation=implementation,
                dtype=hidden.dtype,
                device=device,
            ),
            "position_embeddings": tables,
            # Rotation is done by the tables above; flash attention reads gaps in `position_ids` as packed sequences.
            "position_ids": places[None, :width],
        }
