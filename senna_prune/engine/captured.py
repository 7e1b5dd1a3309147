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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPast

from senna_prune.devices import copied_once
from senna_prune.engine.decode import DecodeStep
from senna_prune.engine.decoder import Decoder
from senna_prune.engine.prefill import PromptPass
from senna_prune.engine.tracing import parts_of, put_together, run_prompt, run_readout, taken_apart, trace_graph
from senna_prune.errors import PruningError
from senna_prune.hosts.host import replaced
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
        graphs: each with the outputs that are no tensors, and how outputs are nested.
        assumed: complexity that prompts are taken to have, so that their graphs are made before one has it.
    """

    compile: Callable[[torch.fx.GraphModule, torch.device], Callable[..., Sequence[Tensor]]] = compile_graph
    most: int = MOST_GRAPHS
    graphs: dict[Any, tuple[Callable[..., Sequence[Tensor]], Any, Any]] = field(default_factory=dict)
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

    def prompt(self, decoder: Decoder, call: Any, hidden: Tensor, tables: Any, cache: Any) -> Tensor | None:
        """Run the prompt that `call` holds, whose decoder inputs are `hidden`, (1, length, d), and whose cosine and
        sine are `tables`; `cache`, which is empty, will hold its keys and values.

        Returns:
            The decoder's output, (1, tokens of the last layer, d); None where it has to run eagerly.
        """
        whole: PromptPass = call.running
        trace, ran = whole.samples[0].trace, list[dict[str, Any]]()
        found: dict[str, Any] = {"hidden": hidden, "given": tables, **parts_of(whole), "caught": {}, "past": {}}
        inputs = tuple(found)
        for first, last in pairwise(sorted({0, whole.measured_at or 0, decoder.num_layers})):
            made = self._run(
                decoder.device,
                (id(whole.pruner), first, last, trace.counts.tokens[: last + 1], trace.counts.merged[: last + 1]),
                {name: found[name] for name in inputs},
                lambda parts, first=first, last=last: run_prompt(decoder, call, whole, parts, first, last),
                f"layers {first} to {last - 1} for {hidden.shape[1]} tokens",
            )
            if made is None:
                return None
            found |= made
            ran.append(made)
            if last != decoder.num_layers:
                assumed = self.assumed
                whole.set_schedule(found["complexity"].tolist() if assumed is None else [assumed], found["hidden"])
        trace.origins[:], trace.views[:], whole.shapes[:], filled = (
            [one for made in ran for one in made[name]] for name in ("origins", "views", "shapes", "filled")
        )
        for layer, (keys, values) in enumerate(filled):
            # What the cache holds of a layer, without copying it.
            if len(cache.layers) <= layer:
                cache.layers.append(DynamicLayer())
            cache.layers[layer].lazy_initialization(keys, values)
            cache.layers[layer].keys, cache.layers[layer].values = keys, values
        whole.cache = cache
        return found["hidden"]

    def readout(self, decoder: Decoder, call: Any, hidden: Tensor, cache: Any) -> Tensor | None:
        """Run the tokens of the tree that `call` holds, (1, q, d), behind `cache`, which stays as it is.

        Returns:
            The decoder's output, (1, q, d); None where it has to run eagerly.
        """
        step: DecodeStep = call.running
        assert step.tree is not None
        past = {i: (layer.keys, layer.values) for i, layer in enumerate(cache.layers)}
        tree = tuple(copied_once(part, hidden.device) for part in (step.tree.visible, step.tree.depths))
        made = self._run(
            decoder.device,
            ("readout", step.prompt.layers, step.prompt.repacked),
            {"hidden": hidden, "past": past, "tree": tree, "next": step.prompt.next_positions},
            lambda parts: run_readout(decoder, call, step, parts),
            f"the readout behind {past[0][0].shape[-2]} tokens",
        )
        return None if made is None else made["hidden"]

    def call(self, function: Callable[[Tensor], R], states: Tensor, name: str) -> R:
        """`function(states)`, a tensor or several: by the graph of this `name`, or eagerly where none can be."""
        made = self._run(states.device, name, {"of": states}, lambda parts: {"is": function(parts["of"])}, name)
        return function(states) if made is None else made["is"]

    def _run(
        self, device: torch.device, key: Any, parts: dict[str, Any], run: Callable[..., dict[str, Any]], name: str
    ) -> dict[str, Any] | None:
        """`run(parts)` by its graph; None, with a warning, where there cannot be one."""
        tensors, static, spec = taken_apart(parts)
        known = (key, static, tuple((t.shape, t.dtype, t.device) for t in tensors))
        if known not in self.graphs:
            if len(self.graphs) >= self.most:
                self._decline(f"{self.most} graphs are compiled already, none for {name}")
                return None
            began = time.perf_counter()
            try:
                traced, nesting = trace_graph(lambda *given: run(put_together(given, static, spec)), tensors)
            except RuntimeError as error:
                asked = isinstance(error, DataDependentOutputException | DynamicOutputShapeException)
                if not asked and "get value out of a tracing tensor" not in str(error):
                    raise
                self._decline(f"what is computed depends on data in {name}: {error}")
                return None
            sys.stderr.write(f"compiling {name} ...")
            sys.stderr.flush()
            compiled = self.compile(traced, device)
            compiled(*tensors)  # the first call compiles
            sys.stderr.write(f" {time.perf_counter() - began:.0f} s\n")
            self.graphs[known] = (compiled, *nesting)
        graph, others, nested = self.graphs[known]
        outputs = graph(*tensors)
        if device.type == "cuda":
            # The next run of a CUDA graph overwrites its outputs.
            outputs = [tensor.clone() for tensor in outputs]
        return put_together(outputs, others, nested)

    def _decline(self, why: str) -> None:
        if not self.warned:
            warnings.warn(EagerFallback(f"{why}; this and whatever else has no graph runs eagerly"), stacklevel=2)
            self.warned = True


@contextmanager
def in_place_of_forward(decoder: Decoder, context: Any, captured: CapturedDecoder) -> Iterator[None]:
    """Inside, `captured` runs what it can of the decoder's calls: not several prompts, padding, other attention than
    SDPA, intermediate results, no cache."""
    module = decoder.module
    eager = module.forward

    def run(kwargs: dict[str, Any]) -> Any:
        running, cache = context.call.running, kwargs.get("past_key_values")
        tracked = any(kwargs.get(name) for name in ("output_hidden_states", "output_attentions"))
        if decoder.attention != "sdpa" or decoder.multi_axis or tracked or kwargs.get("use_cache") is False:
            return None
        embeds = kwargs.get("inputs_embeds")
        if embeds is None:
            embeds = module.get_input_embeddings()(kwargs["input_ids"])
        if embeds.shape[0] > 1:
            return None
        if isinstance(running, PromptPass) and running.samples[0].state.length == embeds.shape[1]:
            cache, places = DynamicCache() if cache is None else cache, kwargs.get("position_ids")
            tables = decoder.rotary(embeds, running.places[None] if places is None else places)
            hidden = captured.prompt(decoder, context.call, embeds, tables, cache)
        elif isinstance(running, DecodeStep) and running.tree is not None:
            hidden = captured.readout(decoder, context.call, embeds, cache)
        else:
            return None
        return None if hidden is None else BaseModelOutputWithPast(last_hidden_state=hidden, past_key_values=cache)

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = None if args else run(kwargs)
        return eager(*args, **kwargs) if output is None else output

    with replaced(module, "forward", forward):
        yield
