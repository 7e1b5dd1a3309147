"""Traces a stretch of the decoder, hooks included, into a graph of tensor operations that holds no data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_unflatten

from senna_prune.engine.decode import CacheShape, DecodeStep, TokenTree
from senna_prune.engine.decoder import Decoder
from senna_prune.engine.prompt_pass import PromptPass
from senna_prune.engine.sample import Sample
from senna_prune.engine.sequence import TokenState
from senna_prune.engine.trace import SampleTrace
from senna_prune.pruning.base import VisionScores


class Kept:
    """Stands in for the key-value cache while a graph is traced: what it holds are inputs and outputs of the graph."""

    is_compileable = False

    def __init__(self, past: dict[int, tuple[Tensor, Tensor]]) -> None:
        self.past = past
        self.layers = {layer: SimpleNamespace(keys=keys, values=values) for layer, (keys, values) in past.items()}

    def update(self, keys: Tensor, values: Tensor, layer: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if layer in self.past:
            keys = torch.cat([self.past[layer][0], keys], dim=-2)
            values = torch.cat([self.past[layer][1], values], dim=-2)
        self.layers[layer] = SimpleNamespace(keys=keys, values=values)
        return keys, values

    def get_seq_length(self, layer: int = 0) -> int:
        return self.past[layer][0].shape[-2] if layer in self.past else 0


def trace_graph(
    run: Callable[[dict[str, Any]], tuple[dict[str, Any], list[CacheShape]]], parts: dict[str, Any]
) -> tuple[torch.fx.GraphModule, Callable[[Sequence[Tensor]], dict[str, Any]], list[CacheShape]]:
    """The operations of `run` on tensors of the shapes in `parts`, without their data.

    Returns:
        Graph from tensors to a list of tensors, what makes the outputs of `run` of that list, and the cache shapes.

    Raises:
        RuntimeError: a number or a shape depends on data (`captured.depends_on_data`).
    """
    leaves, spec = tree_flatten(parts)
    notes: dict[str, Any] = {}

    def flat(*given: Tensor) -> list[Tensor]:
        tensors = iter(given)
        inner = tree_unflatten([next(tensors) if isinstance(leaf, Tensor) else leaf for leaf in leaves], spec)
        made, notes["shapes"] = run(inner)
        outputs, notes["spec"] = tree_flatten(made)
        notes["static"] = [None if isinstance(leaf, Tensor) else leaf for leaf in outputs]
        notes["given"] = [isinstance(leaf, Tensor) for leaf in outputs]
        return [leaf for leaf in outputs if isinstance(leaf, Tensor)]

    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    # Without an environment of symbols, which would let numbers that depend on data pass as unknown ones.
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    shapes_alone = [mode.from_tensor(tensor) for tensor in tensors]
    traced = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(*shapes_alone)

    def unflatten(outputs: Sequence[Tensor]) -> dict[str, Any]:
        values = iter(outputs)
        pairs = zip(notes["given"], notes["static"], strict=True)
        return tree_unflatten([next(values) if given else static for given, static in pairs], notes["spec"])

    return traced, unflatten, notes["shapes"]


def parts_of(whole: PromptPass) -> dict[str, Any]:
    """Everything of a prompt's pass that holds tensors, in containers that can be taken apart."""
    samples = []
    for sample in whole.samples:
        vision = None if sample.vision is None else (sample.vision.score, sample.vision.keys)
        samples.append((dict(vars(sample.state)), vision, sample.embeddings, sample.rows))
    return {"samples": samples, "tables": whole.tables, "places": whole.places, "overrides": whole.overrides}


def run_prompt(
    decoder: Decoder, context: Any, whole: PromptPass, parts: dict[str, Any], first: int, last: int
) -> tuple[dict[str, Any], list[CacheShape]]:
    """Layers `first` to `last` - 1 of a copy of `whole` whose tensors are those in `parts`."""
    inner, kept = copy.copy(whole), Kept({})
    kept.layers |= {layer: SimpleNamespace(keys=keys) for layer, keys in parts["past"].items()}
    inner.samples, inner.shapes, inner.biases, inner.cache = [], [], {}, kept
    inner.tables, inner.places, inner.overrides = parts["tables"], parts["places"], parts["overrides"]
    for sample, (state, vision, embeddings, rows) in zip(whole.samples, parts["samples"], strict=True):
        seen, old = None if vision is None else VisionScores(*vision), sample.trace
        trace = SampleTrace(old.counts, old.num_visual, old.num_text, old.num_views)
        inner.samples.append(Sample(TokenState(**state), 0, trace, seen, embeddings, rows))
    arguments = {"attention_mask": None, "position_embeddings": parts["given"], "past_key_values": kept}
    arguments |= {"position_ids": inner.places[None], "use_cache": True}
    if first:
        inner.settled = True
        inner.capture_projections(first - 1, (arguments | inner.overrides)["position_embeddings"])
        if inner.capture is not None:
            inner.capture.caught = parts["caught"]
    hidden = _through(decoder, context, inner, parts["hidden"], arguments, range(first, last))
    trace = inner.samples[0].trace
    made: dict[str, Any] = {"hidden": hidden, "origins": trace.origins, "views": trace.views}
    made["filled"] = [(kept.layers[layer].keys, kept.layers[layer].values) for layer in range(first, last)]
    if last == inner.measured_at:
        made |= {"complexity": inner.measure(hidden), **parts_of(inner)}
        made["caught"] = {} if inner.capture is None else inner.capture.caught
        made["past"] = {last - 1: kept.layers[last - 1].keys}
    else:
        made["hidden"] = decoder.normalised(hidden)
    return made, inner.shapes


def run_readout(
    decoder: Decoder, context: Any, step: DecodeStep, parts: dict[str, Any]
) -> tuple[dict[str, Any], list[CacheShape]]:
    """All layers of a copy of `step` whose tensors are those in `parts`."""
    inner, kept = copy.copy(step), Kept(parts["past"])
    inner.cache, inner.tree, inner.tables, inner.arguments = kept, TokenTree(*parts["tree"]), {}, {}
    inner.prompt = replace(step.prompt, next_positions=parts["next"])
    # Every layer's own arguments take the place of these, because the tokens form a tree.
    arguments = {"attention_mask": None, "position_embeddings": None, "past_key_values": kept, "use_cache": True}
    hidden = _through(decoder, context, inner, parts["hidden"], arguments, range(decoder.num_layers))
    return {"hidden": decoder.normalised(hidden)}, []


def _through(
    decoder: Decoder, context: Any, running: Any, hidden: Tensor, arguments: dict[str, Any], layers: range
) -> Tensor:
    """`hidden` through some layers, whose hooks ask `running`."""
    before, context.running = context.running, running
    try:
        for layer in layers:
            hidden = decoder.layers[layer](hidden, **arguments)
    finally:
        context.running = before
    return hidden
