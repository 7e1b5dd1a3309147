"""The model as compiled graphs: the hooks' own work, traced once per schedule and length, then run without Python.

A prompt takes one graph, or two where complexity is measured: the host reads it in between and picks the second by the
schedule. The pass over an answer trie takes another, and so do the vision tower and the adapter (`call`). Inside a
graph lengths and counts are fixed; positions, the places of text and images, and what is kept are tensors.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.utils._pytree import tree_flatten
from transformers.cache_utils import DynamicLayer

from senna_prune.devices import copied_once
from senna_prune.engine.decode import CacheShape, DecodeStep
from senna_prune.engine.decoder import Decoder
from senna_prune.engine.prompt_pass import PromptPass
from senna_prune.engine.tracing import parts_of, run_prompt, run_readout, trace_graph
from senna_prune.errors import PruningError
from senna_prune.model.packed_linear import PackedLinear
from senna_prune.pruning.base import Method
from senna_prune.pruning.quantised import Quantised

MOST_GRAPHS = 64
R = TypeVar("R")


class EagerFallback(UserWarning):
    """A pass that was to run compiled runs eagerly instead; the message says why."""


def require_compilable(model: nn.Module) -> None:
    """Refuse compilation where it cannot work.

    Raises:
        PruningError: no C++ compiler is found, or the model's weights are packed.
    """
    if any(isinstance(module, PackedLinear) for module in model.modules()):
        raise PruningError("packed weights cannot be compiled", where="compiled", hint="choose packed or compiled")
    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    if not any(name and shutil.which(name) for name in names):
        raise PruningError("torch.compile finds no C++ compiler", where="compiled", hint="install g++, or set CXX")


def depends_on_data(error: RuntimeError) -> bool:
    """Whether tracing stopped because a number or a shape was asked for that depends on data."""
    known = isinstance(error, DataDependentOutputException | DynamicOutputShapeException)
    return known or "get value out of a tracing tensor" in str(error)


@dataclass(frozen=True)
class Graph:
    """One compiled piece of the model.

    Attributes:
        run: tensors in, tensors out.
        unflatten: gives the tensors their names back.
        shapes: what the caches of its layers then hold.
    """

    run: Callable[..., Sequence[Tensor]]
    unflatten: Callable[[Sequence[Tensor]], dict[str, Any]]
    shapes: list[CacheShape]


def compile_graph(graph: torch.fx.GraphModule, device: torch.device) -> Callable[..., Sequence[Tensor]]:
    """By inductor: C++ on a CPU, CUDA graphs on a GPU."""
    mode = "reduce-overhead" if device.type == "cuda" else None
    return torch.compile(graph, fullgraph=True, dynamic=False, mode=mode)


@dataclass
class CapturedDecoder:
    """Compiled passes of one model, made when they are first needed and kept for as long as this object lives.

    Attributes:
        compile: makes a traced graph fast; tests leave it as it is.
        most: graphs kept; what would need another one runs eagerly.
        assumed: complexity that prompts are taken to have, so that their graphs are made before one has it.
    """

    compile: Callable[[torch.fx.GraphModule, torch.device], Callable[..., Sequence[Tensor]]] = compile_graph
    most: int = MOST_GRAPHS
    graphs: dict[Any, Graph] = field(default_factory=dict)
    pruners: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    expected: dict[Any, list[float | None]] = field(default_factory=dict)
    assumed: float | None = None
    warned: bool = False

    def expect(self, pruner: Any, num_visual: int, num_layers: int, texts: Sequence[int]) -> list[float | None]:
        """Make the schedules of `pruner` so few that the prompts to come need `most` graphs at most.

        A prompt of one length takes a graph, or two where complexity is measured, of which the second is another for
        each schedule; its readout takes one for each schedule. Tower and adapter take two more.

        Args:
            pruner: what will prune them.
            num_visual, num_layers: of the model.
            texts: text tokens of the prompts, each length once.

        Returns:
            A complexity for each schedule: [None] where none is measured.
        """
        asked, few = (id(pruner), num_visual, num_layers, *texts), self.pruner(pruner)
        if asked in self.expected or not isinstance(few, Quantised):
            return self.expected.get(asked, [None])

        shape = (num_visual, num_layers)

        def schedules(few: Quantised) -> list[float | None]:
            given = [(text, sign) for text in texts for sign in (1, -1)]
            found = [(text, sign * size) for text, sign in given for _, size in few.levels(*shape, text, sign)]
            return list({few.plan(*shape, complexity, text).tokens: complexity for text, complexity in found}.values())

        while 2 + len(texts) * (1 + 2 * len(schedules(few))) > self.most and few.tolerance < 1:
            few = replace(few, tolerance=1.25 * few.tolerance)
        self.pruners[id(pruner)] = (pruner, few)
        return self.expected.setdefault(asked, schedules(few))

    def pruner(self, pruner: Any) -> Any:
        """`pruner` with few schedules, the same object every time."""
        if id(pruner) not in self.pruners:
            few = isinstance(pruner, Method) and pruner.measured_layer is not None
            self.pruners[id(pruner)] = (pruner, Quantised(pruner) if few else pruner)
        return self.pruners[id(pruner)][1]

    def prompt(self, decoder: Decoder, context: Any, hidden: Tensor, tables: Any, cache: Any) -> Tensor | None:
        """Run the prompt that `context.running` holds; None where it has to run eagerly.

        Args:
            decoder, context: whose layers run, under which hooks.
            hidden: decoder inputs, (1, length, d).
            tables: cosine and sine of its positions.
            cache: empty; will hold the keys and values.

        Returns:
            The decoder's output, (1, tokens of the last layer, d).
        """
        whole: PromptPass = context.running
        sample, shapes = whole.samples[0], list[CacheShape]()
        stops = sorted({0, whole.measured_at or 0, decoder.num_layers})
        found: dict[str, Any] = {"hidden": hidden, "given": tables, **parts_of(whole)}
        found |= {"caught": {}, "past": {}}
        origins, views = list[Tensor](), list[Tensor]()
        for first, last in pairwise(stops):
            counts = sample.trace.counts
            key = (id(whole.pruner), first, last, counts.tokens[: last + 1], counts.merged[: last + 1])
            names = ("hidden", "given", "samples", "tables", "places", "overrides", "caught", "past")
            graph = self._graph(
                decoder.device,
                key,
                {name: found[name] for name in names},
                lambda parts, first=first, last=last: run_prompt(decoder, context, whole, parts, first, last),
                f"layers {first} to {last - 1} for {hidden.shape[1]} tokens",
            )
            if graph is None:
                return None
            made, kind = graph
            found |= made
            if last != decoder.num_layers:
                assumed = self.assumed
                whole.set_schedule(found["complexity"].tolist() if assumed is None else [assumed], found["hidden"])
            origins += made["origins"]
            views += made["views"]
            shapes += kind.shapes
            for layer, (keys, values) in enumerate(made["filled"], start=first):
                _fill(cache, layer, keys, values)
        sample.trace.origins[:], sample.trace.views[:] = origins, views
        whole.shapes[:], whole.cache = shapes, cache
        return found["hidden"]

    def readout(self, decoder: Decoder, context: Any, hidden: Tensor, cache: Any) -> Tensor | None:
        """Run the tokens of the tree that `context.running` holds, (1, q, d), behind `cache`, which stays as it is.

        Returns:
            The decoder's output, (1, q, d); None where it has to run eagerly.
        """
        step: DecodeStep = context.running
        assert step.tree is not None
        past = {i: (layer.keys, layer.values) for i, layer in enumerate(cache.layers)}
        tree = tuple(copied_once(part, hidden.device) for part in (step.tree.visible, step.tree.depths))
        found = self._graph(
            decoder.device,
            ("readout", step.prompt.layers, step.prompt.repacked),
            {"hidden": hidden, "past": past, "tree": tree, "next": step.prompt.next_positions},
            lambda parts: run_readout(decoder, context, step, parts),
            f"the readout behind {past[0][0].shape[-2]} tokens",
        )
        return None if found is None else found[0]["hidden"]

    def call(self, function: Callable[[Tensor], R], states: Tensor, name: str) -> R:
        """`function(states)`, a tensor or several: by the graph of this `name`, or eagerly where none can be."""
        found = self._graph(
            states.device, name, {"of": states}, lambda parts: ({"is": function(parts["of"])}, []), name
        )
        return function(states) if found is None else found[0]["is"]

    def _graph(
        self, device: torch.device, key: Any, parts: dict[str, Any], run: Callable[..., Any], name: str
    ) -> tuple[dict[str, Any], Graph] | None:
        """Outputs of `run(parts)` by its graph, and the graph; None, with a warning, where there cannot be one."""
        leaves, _ = tree_flatten(parts)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        static = tuple(None if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        known = (key, static, tuple((t.shape, t.dtype, t.device) for t in tensors))
        if known not in self.graphs:
            if len(self.graphs) >= self.most:
                self._decline(f"{self.most} graphs are compiled already, none for {name}")
                return None
            began = time.perf_counter()
            try:
                traced, unflatten, shapes = trace_graph(run, parts)
            except RuntimeError as error:
                if not depends_on_data(error):
                    raise
                self._decline(f"what is computed depends on data in {name}: {error}")
                return None
            sys.stderr.write(f"compiling {name} ...")
            sys.stderr.flush()
            compiled = self.compile(traced, device)
            compiled(*tensors)  # the first call compiles
            sys.stderr.write(f" {time.perf_counter() - began:.0f} s\n")
            self.graphs[known] = Graph(compiled, unflatten, shapes)
        graph = self.graphs[known]
        made = graph.run(*tensors)
        if device.type == "cuda":
            # The next run of a CUDA graph overwrites its outputs.
            made = [tensor.clone() for tensor in made]
        return graph.unflatten(made), graph

    def _decline(self, why: str) -> None:
        if not self.warned:
            warnings.warn(EagerFallback(f"{why}; this and whatever else has no graph runs eagerly"), stacklevel=2)
            self.warned = True


def _fill(cache: Any, layer: int, keys: Tensor, values: Tensor) -> None:
    """Make `keys` and `values` what an empty cache holds of a layer, without copying them."""
    while len(cache.layers) <= layer:
        cache.layers.append(DynamicLayer())
    cache.layers[layer].lazy_initialization(keys, values)
    cache.layers[layer].keys, cache.layers[layer].values = keys, values
