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

from senna_prune.engine.decode import DecodeStep, TokenTree
from senna_prune.engine.decoder import Decoder
from senna_prune.engine.prefill import PromptPass
from senna_prune.engine.state import Sample, SampleTrace, TokenState
from senna_prune.pruning.base import VisionScores


class Kept:
    """Stands in for the key-value cache while a graph is traced: what it holds are inputs and outputs of the graph."""

    is_compileable = False

    def __init__(self, past: dict[int, tuple[Tensor, Tensor]]) -> None:
        self.past = past
        self.layers = {layer: SimpleNamespace(keys=keys, values=values) for layer, (keys, values) in past.items()}

    def update(self, keys: Tensor, values: Tensor, layer: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if layer in self.past:
            keys, values = (torch.cat(both, dim=-2) for both in zip(self.past[layer], (keys, values), strict=True))
        self.layers[layer] = SimpleNamespace(keys=keys, values=values)
        return keys, values

    def get_seq_length(self, layer: int = 0) -> int:
        return self.past[layer][0].shape[-2] if layer in self.past else 0


def taken_apart(tree: Any) -> tuple[list[Tensor], tuple[Any, ...], Any]:
    """The tensors of nested containers, all that they hold with `Tensor` in place of each, and how they are nested."""
    leaves, spec = tree_flatten(tree)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return tensors, tuple(Tensor if isinstance(leaf, Tensor) else leaf for leaf in leaves), spec


def put_together(tensors: Sequence[Tensor], leaves: Sequence[Any], spec: Any) -> Any:
    """What `taken_apart` took apart."""
    given = iter(tensors)
    return tree_unflatten([next(given) if leaf is Tensor else leaf for leaf in leaves], spec)


def trace_graph(run: Callable[..., Any], tensors: Sequence[Tensor]) -> tuple[torch.fx.GraphModule, tuple[Any, Any]]:
    """The operations of `run` on tensors of the shapes of `tensors`, without their data, as a graph to a list of
    tensors; and the other outputs and the nesting, which `put_together` takes.

    Raises:
        RuntimeError: a number or a shape depends on data.
    """
    nesting: list[Any] = []

    def flat(*given: Tensor) -> list[Tensor]:
        outputs, *nesting[:] = taken_apart(run(*given))
        return outputs

    # Without an environment of symbols, which would let numbers that depend on data pass as unknown ones.
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    shapes_alone = [mode.from_tensor(tensor) for tensor in tensors]
    traced = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(*shapes_alone)
    return traced, (nesting[0], nesting[1])


def parts_of(whole: PromptPass) -> dict[str, Any]:
    """Everything of a prompt's pass that holds tensors, in containers that can be taken apart."""
    samples = []
    for sample in whole.samples:
        vision = None if sample.vision is None else (sample.vision.score, sample.vision.keys)
        samples.append((dict(vars(sample.state)), vision, sample.embeddings, sample.rows))
    return {"samples": samples, "tables": whole.tables, "places": whole.places, "overrides": whole.overrides}


def run_prompt(
    decoder: Decoder, call: Any, whole: PromptPass, parts: dict[str, Any], first: int, last: int
) -> dict[str, Any]:
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
        inner.measured = True
        inner.capture_projections(first - 1, (arguments | inner.overrides)["position_embeddings"])
        if inner.capture is not None:
            inner.capture.caught = parts["caught"]
    hidden = _through(decoder, call, inner, parts["hidden"], arguments, range(first, last))
    trace = inner.samples[0].trace
    made = {"hidden": hidden, "origins": trace.origins, "views": trace.views, "shapes": inner.shapes}
    made["filled"] = [(kept.layers[layer].keys, kept.layers[layer].values) for layer in range(first, last)]
    if last == inner.measured_at:
        made |= {"complexity": inner.measure(hidden), **parts_of(inner)}
        made["caught"] = {} if inner.capture is None else inner.capture.caught
        made["past"] = {last - 1: kept.layers[last - 1].keys}
    else:
        made["hidden"] = decoder.module.norm(hidden)
    return made


def run_readout(decoder: Decoder, call: Any, step: DecodeStep, parts: dict[str, Any]) -> dict[str, Any]:
    """All layers of a copy of `step` whose tensors are those in `parts`."""
    inner, kept = copy.copy(step), Kept(parts["past"])
    inner.cache, inner.tree, inner.tables, inner.arguments = kept, TokenTree(*parts["tree"]), {}, {}
    inner.prompt = replace(step.prompt, next_positions=parts["next"])
    # Every layer's own arguments take the place of these, because the tokens form a tree.
    arguments = {"attention_mask": None, "position_embeddings": None, "past_key_values": kept, "use_cache": True}
    hidden = _through(decoder, call, inner, parts["hidden"], arguments, range(decoder.num_layers))
    return {"hidden": decoder.module.norm(hidden)}


def _through(
    decoder: Decoder, call: Any, running: Any, hidden: Tensor, arguments: dict[str, Any], layers: range
) -> Tensor:
    """`hidden` through some layers, whose hooks ask `running`."""
    before, call.running = call.running, running
    try:
        for layer in layers:
            hidden = decoder.layers[layer](hidden, **arguments)
    finally:
        call.running = before
    return hidden
