"""The engine against independent ways of computing the same thing."""

from __future__ import annotations

import gc
import weakref
from typing import Any, ClassVar

import pytest
import torch
import transformers
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaForCausalLM

from senna_prune.benchmark.replay import Recorder
from senna_prune.engine import prune
from senna_prune.engine.decoder import find_decoder
from senna_prune.engine.probe import Capture
from senna_prune.errors import InputError, PruningError
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.interface import (
    KEYS,
    LAST_ATTENTION,
    NEXT_ATTENTION,
    NORMED,
    TEXT_ATTENTION,
    VISION,
    Observation,
)
from senna_prune.task.prompts import planning_prompt, planning_question
from tests.engine.policies import ScriptedPruner
from tests.fakes import tiny_senna, tiny_views
from tests.masking import last_logits_masked

LATE = (1.0, 1.0, 0.5, 0.25)
EARLY = (0.5, 0.5, 0.25, 0.0)


def inputs_for(model: Any, processor: Any, speeds: tuple[float, ...] = (6.0,), side: str = "left") -> dict[str, Any]:
    commands = ("go straight", "go straight and turn left", "turn right")
    prompts = [planning_prompt(planning_question(v, commands[i % 3])) for i, v in enumerate(speeds)]
    images = [tiny_views(seed=i) for i in range(len(speeds))]
    return dict(processor(text=prompts, images=images, padding_side=side))


@torch.no_grad()
def generate(model: Any, inputs: dict[str, Any], **kwargs: Any) -> Tensor:
    return model.generate(**inputs, max_new_tokens=6, min_new_tokens=6, do_sample=False, **kwargs)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("speeds", [(6.0,), (6.0, 12.0, 0.0)])
def test_keep_all_is_bit_identical(attention: str, speeds: tuple[float, ...]) -> None:
    model, processor = tiny_senna(attn_implementation=attention)
    inputs = inputs_for(model, processor, speeds)
    keep_all = ScriptedPruner((1.0,) * 4)
    with torch.no_grad():
        plain = model(**inputs).logits
        with prune(model, keep_all) as trace:
            pruned = model(**inputs).logits
    assert torch.equal(plain, pruned)
    assert trace.samples[0].entering == (48,) * 4
    ids = generate(model, inputs)
    with prune(model, keep_all):
        assert torch.equal(generate(model, inputs), ids)


@pytest.mark.parametrize("fractions", [LATE, EARLY, (1.0, 0.5, 0.5, 0.5)])
def test_dropping_equals_masking_with_original_positions(fractions: tuple[float, ...]) -> None:
    model, processor = tiny_senna(attn_implementation="eager")
    inputs, recorder = inputs_for(model, processor), Recorder(ScriptedPruner(fractions))
    with torch.no_grad(), prune(model, recorder):
        pruned = model(**inputs).logits[0, -1]
    layout = TokenLayout.from_ids(inputs["input_ids"][0], model.config.image_token_id, model.config.num_view_tokens)
    expected = last_logits_masked(model, inputs, layout, recorder.selections)
    torch.testing.assert_close(pruned, expected, atol=2e-5, rtol=1e-5)
    with torch.no_grad():
        assert not torch.allclose(pruned, model(**inputs).logits[0, -1], atol=1e-3), "nothing was pruned"


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("positions", ["original", "repacked"])
@pytest.mark.parametrize(("fractions", "merge"), [(LATE, False), (EARLY, False), (LATE, True)])
def test_batch_equals_singles(attention: str, positions: str, fractions: tuple[float, ...], merge: bool) -> None:
    model, processor = tiny_senna(attn_implementation=attention)
    pruner = ScriptedPruner(fractions, merge=merge, positions=positions)
    speeds = (6.0, 12.0, 0.0)
    batch = inputs_for(model, processor, speeds)
    assert (batch["attention_mask"] == 0).any(), "the batch should be ragged"
    with prune(model, pruner) as trace:
        together = generate(model, batch, return_dict_in_generate=True, output_logits=True)
        entering = [sample.entering for sample in trace.samples]
    for i in range(len(speeds)):
        row = {key: value[i : i + 1] for key, value in batch.items()}
        real = row["attention_mask"][0].bool()
        row["input_ids"], row["attention_mask"] = row["input_ids"][:, real], row["attention_mask"][:, real]
        with prune(model, pruner) as trace:
            alone = generate(model, row, return_dict_in_generate=True, output_logits=True)
        assert trace.samples[0].entering == entering[i]
        for step, logits in enumerate(alone.logits):
            torch.testing.assert_close(together.logits[step][i], logits[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("positions", ["original", "repacked"])
@pytest.mark.parametrize("fractions", [LATE, EARLY])
def test_decoding_from_the_cache_equals_reading_everything_again(positions: str, fractions: tuple[float, ...]) -> None:
    model, processor = tiny_senna()
    inputs = inputs_for(model, processor)
    pruner = ScriptedPruner(fractions, positions=positions)
    with prune(model, pruner):
        cached = generate(model, inputs, return_dict_in_generate=True, output_logits=True)
        again = generate(model, inputs, use_cache=False, return_dict_in_generate=True, output_logits=True)
    assert torch.equal(cached.sequences, again.sequences)
    for one, other in zip(cached.logits, again.logits, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_cache_holds_what_entered_each_layer() -> None:
    model, processor = tiny_senna()
    inputs = inputs_for(model, processor)
    with torch.no_grad(), prune(model, ScriptedPruner(LATE)) as trace:
        cache = model(**inputs, use_cache=True).past_key_values
    text = trace.samples[0].num_text
    assert [cache.get_seq_length(layer) - text for layer in range(4)] == [48, 48, 24, 12]
    assert trace.cache_lengths == [[text + n] for n in (48, 48, 24, 12)]
    assert trace.samples[0].after == (48, 24, 12, 12)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
def test_probe_rows_equal_eager_attention(heads: tuple[int, int], use_cache: bool) -> None:
    model, processor = tiny_senna(attn_implementation="sdpa", num_heads=heads[0], num_key_value_heads=heads[1])
    eager, _ = tiny_senna(attn_implementation="eager", num_heads=heads[0], num_key_value_heads=heads[1])
    inputs = inputs_for(model, processor)
    layout = TokenLayout.from_ids(inputs["input_ids"][0], model.config.image_token_id, model.config.num_view_tokens)
    with torch.no_grad():
        attentions = eager(**inputs, output_attentions=True).attentions
    last = torch.tensor([layout.length - 1])
    cases = [
        (TEXT_ATTENTION, "question", layout.question, 1),
        (TEXT_ATTENTION, "all_text", layout.text, 1),
        (LAST_ATTENTION, "question", last, 1),
        (NEXT_ATTENTION, "question", last, 2),
    ]
    for need, scope, rows, layer in cases:
        pruner = ScriptedPruner(LATE, needs=frozenset({need}), text_scope=scope)
        with torch.no_grad(), prune(model, pruner):
            model(**inputs, use_cache=use_cache)
        expected = attentions[layer][0][:, rows][:, :, layout.visual]
        torch.testing.assert_close(pruner.seen[0].attention, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
def test_keys_are_those_of_the_cache(heads: tuple[int, int], use_cache: bool) -> None:
    model, processor = tiny_senna(num_heads=heads[0], num_key_value_heads=heads[1])
    inputs = inputs_for(model, processor, (6.0, 12.0))
    with torch.no_grad():
        cache = model(**inputs, use_cache=True).past_key_values
    pruner = ScriptedPruner(LATE, needs=frozenset({KEYS}))
    with torch.no_grad(), prune(model, pruner):
        model(**inputs, use_cache=use_cache)
    for sample, observation in enumerate(pruner.seen[:2]):
        visual = (inputs["input_ids"][sample] == model.config.image_token_id).nonzero().flatten()
        expected = cache.layers[observation.layer - 1].keys[sample].index_select(1, visual)
        assert observation.keys is not None
        assert observation.keys.shape[:2] == (heads[1], 48)
        torch.testing.assert_close(observation.keys, expected, atol=1e-6, rtol=1e-4)
    last = pruner.seen[-1]
    assert last.keys is not None and last.keys.shape[1] == last.origin.shape[0] < 48


@pytest.mark.parametrize("scope", ["question", "all_text"])
def test_a_scorer_may_see_the_text_beside_the_views(scope: str) -> None:
    model, processor = tiny_senna()
    inputs = inputs_for(model, processor, (6.0, 12.0))
    positions = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        plain = model(**inputs, position_ids=positions, use_cache=True, output_hidden_states=True)
    pruner = ScriptedPruner(LATE, needs=frozenset({KEYS, NORMED}), text_scope=scope)
    with torch.no_grad(), prune(model, pruner):
        model(**inputs, position_ids=positions)
    for sample, observation in enumerate(pruner.seen[:2]):
        real = inputs["attention_mask"][sample].bool()
        config = model.config
        layout = TokenLayout.from_ids(inputs["input_ids"][sample][real], config.image_token_id, config.num_view_tokens)
        wanted = layout.question if scope == "question" else layout.text
        assert observation.text_slots.tolist() == wanted.tolist()
        hidden = plain.hidden_states[observation.layer][sample][real]
        assert observation.normed is not None and observation.sequence_keys is not None
        torch.testing.assert_close(observation.normed, model.model.language_model.norm(hidden), atol=1e-5, rtol=1e-4)
        keys = plain.past_key_values.layers[observation.layer - 1].keys[sample][:, real]
        torch.testing.assert_close(observation.sequence_keys, keys, atol=1e-6, rtol=1e-4)


def test_a_decoder_without_a_final_norm_is_named() -> None:
    decoder = find_decoder(tiny_senna()[0])
    decoder.module.norm = None
    with pytest.raises(PruningError, match="LlamaModel has no final norm"):
        decoder.final_norm(torch.zeros(3, 64))


def test_probe_does_not_look_at_padding() -> None:
    model, processor = tiny_senna()
    seen = {}
    for side in ("left", "right"):
        pruner = ScriptedPruner(LATE, needs=frozenset({TEXT_ATTENTION}))
        with torch.no_grad(), prune(model, pruner):
            model(**inputs_for(model, processor, (6.0, 12.0), side))
        seen[side] = [observation.attention for observation in pruner.seen]
    for left, right in zip(seen["left"], seen["right"], strict=True):
        torch.testing.assert_close(left, right, atol=1e-4, rtol=1e-3)


def test_merged_tokens_stand_behind_their_view() -> None:
    model, processor = tiny_senna()
    inputs = inputs_for(model, processor)
    first_of_each_view = lambda obs, count: torch.arange(48).view(6, 8)[:, : -(-count // 6)].flatten()[:count]  # noqa: E731
    pruner = ScriptedPruner((1.0, 0.5, 0.5, 0.5), choose=first_of_each_view, merge=True)
    with torch.no_grad(), prune(model, pruner) as trace:
        model(**inputs)
    origins, views = trace.samples[0].origins[1].tolist(), trace.samples[0].views[1].tolist()
    assert origins[-1] == -2, "the token merged at layer 1, anchored in the last view, comes last"
    assert views == sorted(views)
    assert len(origins) == 24


def test_beam_search_and_sampling_run() -> None:
    model, processor = tiny_senna()
    inputs = inputs_for(model, processor, (6.0, 12.0))
    with prune(model, ScriptedPruner(LATE)) as trace:
        beams = model.generate(**inputs, num_beams=3, max_new_tokens=4, do_sample=False)
        assert len(trace.samples) == 6
        torch.manual_seed(0)
        sampled = model.generate(**inputs, do_sample=True, max_new_tokens=4)
    assert beams.shape[0] == sampled.shape[0] == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs(dtype: torch.dtype) -> None:
    model, processor = tiny_senna()
    inputs = inputs_for(model, processor)
    inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
    with prune(model.to(dtype), ScriptedPruner(LATE, merge=True, needs=frozenset({TEXT_ATTENTION}))) as trace:
        generate(model, inputs)
    assert trace.samples[0].entering == (48, 48, 24, 12)


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


def test_no_host_sync_while_the_layers_run() -> None:
    """Reading a number off the device stalls it; between the first and the last layer none may be read."""
    model, processor = tiny_senna()
    inputs = inputs_for(model, processor)
    decoder, counter = find_decoder(model), SyncCounter()
    starts: list[int] = []
    handles = [
        decoder.layers[0].register_forward_pre_hook(lambda *_: starts.append(counter.count)),
        decoder.layers[-1].register_forward_hook(lambda *_: starts.append(counter.count)),
    ]
    with torch.no_grad(), prune(model, ScriptedPruner(EARLY, needs=frozenset({TEXT_ATTENTION}))), counter:
        model(**inputs)
    for handle in handles:
        handle.remove()
    assert starts[0] > 0, "the counter does not count"
    assert starts[1] == starts[0]


class SyncCounter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.count += 1
        return func(*args, **(kwargs or {}))


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


def test_contexts_do_not_nest_and_caches_do_not_wander() -> None:
    model, processor = tiny_senna()
    inputs = inputs_for(model, processor)
    with torch.no_grad(), prune(model, ScriptedPruner(LATE)):
        with pytest.raises(PruningError, match="already"), prune(model, ScriptedPruner(EARLY)):
            pass
        older = model(**inputs, use_cache=True).past_key_values
        model(**inputs, use_cache=True)
        with pytest.raises(PruningError, match="latest prefill"):
            model(input_ids=torch.tensor([[5]]), past_key_values=older)
    with torch.no_grad(), prune(model, ScriptedPruner(LATE)), pytest.raises(PruningError, match="latest prefill"):
        model(input_ids=torch.tensor([[5]]), past_key_values=older)


def test_nothing_holds_on_to_the_cache() -> None:
    model, processor = tiny_senna()
    with torch.no_grad(), prune(model, ScriptedPruner(LATE)):
        cache = model(**inputs_for(model, processor), use_cache=True).past_key_values
        model(input_ids=torch.tensor([[5]]), past_key_values=cache)
        gone = weakref.ref(cache)
        del cache
        gc.collect()
        assert gone() is None


def test_each_asks_for_its_own_rows() -> None:
    """A scorer that reads the last token's row beside a complexity that reads all text rows."""
    model, processor = tiny_senna()

    class Measure:
        layer = 1
        needs = frozenset({TEXT_ATTENTION})
        rows: ClassVar[list[int]] = []

        def measure(self, observation: Observation) -> Tensor:
            self.rows.append(observation.attention.shape[1])
            return observation.attention.sum()

    for need in (LAST_ATTENTION, NEXT_ATTENTION):
        pruner = ScriptedPruner(LATE, needs=frozenset({need}), complexity=Measure())
        with torch.no_grad(), prune(model, pruner):
            model(**inputs_for(model, processor))
        assert pruner.seen[0].attention.shape[1] == 1
        assert Measure.rows[-1] > 1


@pytest.mark.parametrize(("asks", "expected"), [({TEXT_ATTENTION}, 2), (set(), 0), ({VISION}, 0)])
def test_rows_are_computed_once_and_only_if_asked_for(
    asks: set[str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Complexity and scorer share the rows of a layer; LATE cuts before layers 2 and 3."""
    model, processor = tiny_senna()
    calls: list[int] = []
    rows = Capture.rows
    monkeypatch.setattr(Capture, "rows", lambda self, *args: calls.append(self.layer) or rows(self, *args))

    class Measure:
        layer = 1
        needs = frozenset(asks)

        def measure(self, observation: Observation) -> Tensor:
            return observation.hidden.mean()

    pruner = ScriptedPruner(LATE, needs=frozenset(asks), complexity=Measure())
    with torch.no_grad(), prune(model, pruner) as trace:
        model(**inputs_for(model, processor))
    assert trace.samples[0].complexity is not None
    assert len(calls) == expected


def test_text_alone_passes_through_methods_that_look_at_pictures() -> None:
    model, _ = tiny_senna()
    ids = torch.randint(3, 500, (1, 12))
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        with prune(model, ScriptedPruner(LATE, needs=frozenset({VISION}))):
            assert torch.equal(model(input_ids=ids).logits, plain)
