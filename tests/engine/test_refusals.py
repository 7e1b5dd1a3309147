"""What the engine refuses, leaves untouched and lets go of."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import LlamaForCausalLM

from senna_prune.engine import prune
from senna_prune.errors import InputError, PruningError
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.base import (
    TEXT_ATTENTION,
    VISION,
)
from tests.engine.policies import ScriptedPruner
from tests.engine.test_prefill import EARLY, LATE, generate, inputs_for
from tests.fakes import tiny_senna


def count_hooks(model: torch.nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())


def test_the_model_is_untouched_afterwards() -> None:
    model, processor = tiny_senna()
    inputs, before = inputs_for(model, processor), count_hooks(model)
    with torch.no_grad():
        plain = model(**inputs).logits
    with pytest.raises(RuntimeError, match="policy broke"), prune(model, ScriptedPruner(LATE, choose=_broken)):
        generate(model, inputs)
    assert count_hooks(model) == before
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, plain)


def _broken(observation: Any, count: int) -> Tensor:
    raise RuntimeError("policy broke")


def test_any_llama_like_host_with_a_layout() -> None:
    model, _ = tiny_senna()
    host = LlamaForCausalLM(model.config.text_config).eval()
    embeds = torch.randn(1, 40, 64)
    layout = TokenLayout(40, {"image": range(5, 29)})
    with torch.no_grad(), prune(host, ScriptedPruner(LATE), layouts=[layout]) as trace:
        logits = host(inputs_embeds=embeds).logits
    assert logits.shape[1] == 16 + 6
    assert trace.samples[0].entering == (24, 24, 12, 6)


def test_a_host_without_a_file_is_not_told_to_pass_pictures() -> None:
    host = LlamaForCausalLM(tiny_senna()[0].config.text_config).eval()
    layout, policy = TokenLayout(40, {"image": range(5, 29)}), ScriptedPruner(LATE, needs=frozenset({VISION}))
    with (
        prune(host, policy, layouts=[layout]),
        pytest.raises(PruningError, match=r"no file in hosts/ reads off this model\. Pass vision= to prune"),
    ):
        host(inputs_embeds=torch.randn(1, 40, 64))


def test_errors_say_what_is_wrong() -> None:
    model, processor = tiny_senna()
    inputs = inputs_for(model, processor)
    host = LlamaForCausalLM(model.config.text_config).eval()
    with pytest.raises(PruningError, match="layouts="), prune(host, ScriptedPruner(LATE)):
        pass
    with pytest.raises(PruningError, match="no Llama-like decoder"), prune(torch.nn.Linear(2, 2), ScriptedPruner(LATE)):
        pass
    with pytest.raises(PruningError, match="static cache"), prune(model, ScriptedPruner(LATE)):
        generate(model, inputs, cache_implementation="static")
    layout = TokenLayout(7, {"image": range(2, 4)})
    with pytest.raises(InputError, match="layout of 7 tokens"), prune(model, ScriptedPruner(LATE), layouts=[layout]):
        model(**inputs)


def test_masks_with_gaps_or_empty_rows_are_refused() -> None:
    model, processor = tiny_senna()
    for broken in (slice(100, 101), slice(None)):
        inputs = inputs_for(model, processor)
        inputs["attention_mask"][0, broken] = 0
        with pytest.raises(PruningError, match="gap or an empty row"), prune(model, ScriptedPruner(LATE)):
            model(**inputs)


def test_text_attention_needs_text_behind_the_views() -> None:
    model, _ = tiny_senna()
    host = LlamaForCausalLM(model.config.text_config).eval()
    layout, pruner = TokenLayout(40, {"image": range(16, 40)}), ScriptedPruner(LATE, needs=frozenset({TEXT_ATTENTION}))
    with pytest.raises(PruningError, match="no text follows"), prune(host, pruner, layouts=[layout]):
        host(inputs_embeds=torch.randn(1, 40, 64))


@pytest.mark.parametrize("kind", ["Qwen3", "Mistral", "Phi3"])
def test_hosts_the_probe_would_misread_are_refused(kind: str) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 2, "vocab_size": 64, "pad_token_id": 0}
    sizes |= {"head_dim": 16} if kind == "Qwen3" else {"sliding_window": 8}
    host = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**sizes))
    before = count_hooks(host)
    layout = TokenLayout(8, {"image": range(2, 6)})
    with pytest.raises(PruningError), prune(host, ScriptedPruner((1.0, 1.0)), layouts=[layout]):
        pass
    assert count_hooks(host) == before


def test_contexts_do_not_nest() -> None:
    model, _ = tiny_senna()
    with prune(model, ScriptedPruner(LATE)):
        with pytest.raises(PruningError, match="already"), prune(model, ScriptedPruner(EARLY)):
            pass
        assert count_hooks(model) > 0
    assert count_hooks(model) == 0


def test_nothing_holds_on_to_the_cache() -> None:
    model, processor = tiny_senna()
    with torch.no_grad(), prune(model, ScriptedPruner(LATE)):
        cache = model(**inputs_for(model, processor), use_cache=True).past_key_values
        model(input_ids=torch.tensor([[5]]), past_key_values=cache)
        gone = weakref.ref(cache)
        del cache
        gc.collect()
        assert gone() is None


def test_text_alone_passes_through_methods_that_look_at_pictures() -> None:
    model, _ = tiny_senna()
    ids = torch.randint(3, 500, (1, 12))
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        with prune(model, ScriptedPruner(LATE, needs=frozenset({VISION}))):
            assert torch.equal(model(input_ids=ids).logits, plain)
