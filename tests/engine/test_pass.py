"""One pass object per prefill: what arms its probe, how often it solves, where its state lives, when it goes."""

from __future__ import annotations

import gc
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from torch import Tensor

from senna_prune.engine import prune
from senna_prune.engine.decoder import find_decoder
from senna_prune.engine.prefill import PromptPass
from senna_prune.errors import PruningError
from senna_prune.hosts.senna import SennaHost
from senna_prune.planner.planner import pruner_for
from senna_prune.pruning import Budget, DecoderCost
from senna_prune.pruning.base import TEXT_ATTENTION, Method
from senna_prune.task.prompts import image_prompt, planning_prompt, planning_question
from tests.engine.policies import ScriptedPruner
from tests.engine.test_prefill import EARLY, LATE, inputs_for, read
from tests.fakes import tiny_senna, tiny_views


@pytest.mark.parametrize(("retention", "complexity", "layers"), [(0.5, 0.9, 32), (0.55, 0.3, 8)])
def test_a_schedule_that_cuts_only_once_complexity_is_measured(
    retention: float, complexity: float, layers: int
) -> None:
    model, processor = tiny_senna(num_layers=layers)
    options = {"variant": "paper", "indicator": "static", "assumed": complexity}
    policy = pruner_for(model, "autoprune", Budget.retention(retention), **options)
    unmeasured = policy.plan(48, layers)
    counts = read(model, inputs_for(model, processor), policy)[1].samples[0].counts
    assert counts == policy.plan(48, layers, complexity)
    assert counts.tokens[2] < unmeasured.tokens[2] == 48, "the case is no test of this"


@pytest.mark.parametrize("method", ["autoprune", "fastervlm"])
def test_a_flops_budget_is_met_by_each_sample_beside_its_own_text(method: str) -> None:
    model, processor = tiny_senna(num_layers=8)
    prompts = [planning_prompt(planning_question(6.0, "go straight")), image_prompt() + " ".join(map(str, range(200)))]
    inputs = processor(text=prompts, images=[tiny_views(seed=i) for i in range(2)], padding_side="left")
    cost = DecoderCost(hidden=64, intermediate=128, text=300)
    policy = pruner_for(model, method, Budget.flops(0.92, cost))
    trace = read(model, inputs, policy)[1]
    assert trace.samples[0].num_text < trace.samples[1].num_text - 200
    for sample in trace.samples:
        own = replace(cost, text=sample.num_text)
        # One token less in every layer would be cheaper by more than what is missing.
        spent, wanted = sum(map(own.layer, sample.entering)), 0.92 * 8 * own.layer(48)
        assert abs(spent - wanted) <= 8 * (own.layer(48) - own.layer(47)) / 2


def test_a_schedule_is_solved_once_per_count_and_complexity(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[Any] = []
    resolve = Method.resolve
    monkeypatch.setattr(Method, "resolve", lambda self, *asked: solved.append(asked) or resolve(self, *asked))
    model, processor = tiny_senna()
    measured = set()
    policy = pruner_for(model, "autoprune", Budget.retention(0.5))
    for speeds in ((6.0,), (6.0, 12.0), (6.0,)):
        trace = read(model, inputs_for(model, processor, speeds), policy)[1]
        measured |= {sample.complexity for sample in trace.samples}
    assert len(solved) == len(set(solved)) == 1 + len(measured)


def test_one_context_serves_prompts_of_any_number_and_length() -> None:
    model, processor = tiny_senna()
    policy = pruner_for(model, "autoprune", Budget.retention(0.5))
    batches = [inputs_for(model, processor, speeds) for speeds in ((6.0,), (0.0, 6.0, 120.0), (120.0, 0.0))]
    batches.append({"input_ids": torch.randint(3, 500, (1, 12))})
    expected = [read(model, batch, policy)[0].logits for batch in batches]
    with torch.no_grad(), prune(model, policy) as trace:
        for batch, logits in zip(batches, expected, strict=True):
            assert torch.equal(model(**batch).logits, logits)
            assert len(trace.samples) == len(batch["input_ids"])


def test_the_pass_is_gone_when_the_prompt_is_through(monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = tiny_senna()
    made: list[Any] = []

    class Watched(PromptPass):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(weakref.ref(self))

    monkeypatch.setattr(sys.modules["senna_prune.engine.prune"], "PromptPass", Watched)
    policy = ScriptedPruner(LATE, needs=frozenset({TEXT_ATTENTION}))
    with torch.no_grad(), prune(model, policy):
        cache = model(**inputs_for(model, processor), use_cache=True).past_key_values
        gc.collect()
        assert [one() for one in made] == [None]
        with pytest.raises(RuntimeError):
            model(input_ids=torch.tensor([[5]]), attention_mask=torch.ones(3, 3, 3, 3), past_key_values=cache)
        model(**inputs_for(model, processor))
    gc.collect()
    assert [one() for one in made] == [None, None]


def test_layers_on_disk_prune_as_those_in_memory(tmp_path: Path) -> None:
    model, processor = tiny_senna()
    inputs = inputs_for(model, processor, (6.0, 12.0))
    methods = ("none", "autoprune", "fastv", "sparsevlm", "visionzip")

    def logits() -> list[Tensor]:
        return [read(model, inputs, pruner_for(model, name, Budget.retention(0.5)))[0].logits for name in methods]

    expected = logits()
    places = dict.fromkeys(["vision_tower", "multi_modal_projector", "img_adapter"], "cpu")
    places |= {f"language_model.{part}": "cpu" for part in ("embed_tokens", "norm", "rotary_emb")}
    places |= {f"language_model.layers.{i}": "cpu" if i < 1 else "disk" for i in range(4)}
    dispatch_model(
        model, {f"model.{part}": where for part, where in places.items()} | {"lm_head": "cpu"}, offload_dir=tmp_path
    )
    assert next(find_decoder(model).layers[3].parameters()).is_meta
    for one, other in zip(logits(), expected, strict=True):
        assert torch.equal(one, other)


def test_layers_that_the_host_protects_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = tiny_senna()
    monkeypatch.setattr(SennaHost, "first_cut", 2)
    inputs = inputs_for(model, processor)
    assert read(model, inputs, ScriptedPruner(LATE))[1].samples[0].entering == (48, 48, 24, 12)
    with pytest.raises(PruningError, match="before layer 2"):
        read(model, inputs, ScriptedPruner(EARLY))


def test_nothing_holds_on_to_the_cache() -> None:
    model, processor = tiny_senna()
    with torch.no_grad(), prune(model, ScriptedPruner(LATE)):
        cache = model(**inputs_for(model, processor), use_cache=True).past_key_values
        model(input_ids=torch.tensor([[5]]), past_key_values=cache)
        gone = weakref.ref(cache)
        del cache
        gc.collect()
        assert gone() is None
