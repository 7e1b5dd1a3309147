"""What the engine refuses, leaves untouched and lets go of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import LlamaForCausalLM

from senna_prune.engine import prune
from senna_prune.errors import InputError, PruningError
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning import Budget, make_pruner
from senna_prune.pruning.base import NEXT_ATTENTION, TEXT_ATTENTION, VISION
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


def senna() -> Any:
    return tiny_senna()[0]


def llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(tiny_senna()[0].config.text_config).eval()


EMBEDS = {"inputs_embeds": torch.randn(1, 40, 64)}
MIDDLE, LAST, SHORT = (
    {"layouts": [TokenLayout(length, {"image": image})]}
    for length, image in ((40, range(5, 29)), (40, range(16, 40)), (7, range(2, 4)))
)
NONE = make_pruner("none", Budget.retention(1.0), num_layers=4, num_heads=4, num_visual=48)
WRONG: dict[str, tuple[Callable[[], Any], Any, dict[str, Any], Any, str]] = {
    "no layout": (llama, ScriptedPruner(LATE), {}, {}, "layouts="),
    "no file": (llama, NONE, {}, {}, r"'llama' has no file in hosts/, which knows llava, .*senna"),
    "no decoder": (lambda: torch.nn.Linear(2, 2), ScriptedPruner(LATE), {}, {}, "no Llama-like decoder"),
    "no tower": (
        llama,
        ScriptedPruner(LATE, needs=frozenset({VISION})),
        MIDDLE,
        EMBEDS,
        r"no file in hosts/ reads off this model\. Pass vision= to prune",
    ),
    "no text": (llama, ScriptedPruner(LATE, needs=frozenset({TEXT_ATTENTION})), LAST, EMBEDS, "no text follows"),
    "no ids": (senna, ScriptedPruner(LATE), {}, {"inputs_embeds": torch.randn(1, 60, 64)}, "no input_ids"),
    "another length": (senna, ScriptedPruner(LATE), SHORT, None, "layout of 7 tokens"),
    "a gap": (senna, ScriptedPruner(LATE), {}, slice(100, 101), "gap or an empty row"),
    "an empty row": (senna, ScriptedPruner(LATE), {}, slice(None), "gap or an empty row"),
}


@pytest.mark.parametrize("case", WRONG)
@torch.no_grad()
def test_errors_say_what_is_wrong(case: str) -> None:
    make, pruner, given, inputs, message = WRONG[case]
    model = make()
    if not isinstance(inputs, dict):
        hidden, inputs = inputs, inputs_for(*tiny_senna())
        inputs["attention_mask"][0, hidden or slice(0)] = 0
    with pytest.raises((PruningError, InputError), match=message), prune(model, pruner, **given):
        model(**inputs)


def test_any_llama_like_host_with_a_layout() -> None:
    model = llama()
    with torch.no_grad(), prune(model, ScriptedPruner(LATE), **MIDDLE) as trace:
        logits = model(**EMBEDS).logits
    assert logits.shape[1] == 16 + 6
    assert trace.samples[0].entering == (24, 24, 12, 6)


def test_a_static_cache_is_refused() -> None:
    model, processor = tiny_senna()
    with pytest.raises(PruningError, match="static cache"), prune(model, ScriptedPruner(LATE)):
        generate(model, inputs_for(model, processor), cache_implementation="static")


ALIKE = ["Llama", "Qwen2", "Qwen3", "Qwen3Moe", "Gemma", "Granite", "Olmo", "Starcoder2"]
UNLIKE = ["Cohere", "Cohere2", "Ernie4_5", "Exaone4", "Gemma2", "Glm", "Helium", "HunYuanDenseV1", "Llama4"]
UNLIKE += ["Mistral", "NanoChat", "Nemotron", "Olmo2", "Olmo3", "Phi", "Phi3", "SmolLM3", "StableLm"]


@pytest.mark.parametrize("kind", [*ALIKE, *UNLIKE])
@torch.no_grad()
def test_attention_rows_are_the_decoders_own_or_it_is_refused(kind: str) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    sizes |= {"head_dim": 16, "initializer_range": 0.5}
    config = getattr(transformers, f"{kind}{'Text' * (kind == 'Llama4')}Config")(**sizes)
    host = getattr(transformers, f"{kind}ForCausalLM")._from_config(config, attn_implementation="eager").eval()
    before, layout, ids = count_hooks(host), TokenLayout(8, {"image": range(2, 6)}), torch.arange(3, 11)[None]
    if kind in UNLIKE:
        with pytest.raises(PruningError), prune(host, ScriptedPruner((1.0, 1.0)), layouts=[layout]):
            pass
        assert count_hooks(host) == before
        return
    own = host(input_ids=ids, output_attentions=True).attentions
    for need, use_cache in ((TEXT_ATTENTION, True), (TEXT_ATTENTION, False), (NEXT_ATTENTION, True)):
        policy = ScriptedPruner((1.0, 1.0, 1.0, 0.5), needs=frozenset({need}))
        with prune(host, policy, layouts=[layout]):
            host(input_ids=ids, use_cache=use_cache)
        rows = policy.seen[-1].rows
        layer = 3 if need == NEXT_ATTENTION else 2
        torch.testing.assert_close(rows, own[layer][0, :, -rows.shape[1] :], atol=1e-5, rtol=1e-5)


def test_contexts_do_not_nest() -> None:
    model, _ = tiny_senna()
    with prune(model, ScriptedPruner(LATE)):
        with pytest.raises(PruningError, match="already"), prune(model, ScriptedPruner(EARLY)):
            pass
        assert count_hooks(model) > 0
    assert count_hooks(model) == 0


def test_text_alone_passes_through_methods_that_look_at_pictures() -> None:
    model, _ = tiny_senna()
    ids = torch.randint(3, 500, (1, 12))
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        with prune(model, ScriptedPruner(LATE, needs=frozenset({VISION}))):
            assert torch.equal(model(input_ids=ids).logits, plain)
