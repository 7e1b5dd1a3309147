"""One pass over the answer trie against twenty passes, and against constrained generation step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from senna_prune.engine import prune
from senna_prune.engine.readout import AnswerTrie, score_answers
from senna_prune.errors import InputError
from senna_prune.task.labels import PLANS, plan_text
from tests.engine.policies import ScriptedPruner
from tests.engine.test_prefill import EARLY, LATE, inputs_for
from tests.fakes import tiny_senna

ALL = (1.0,) * 4


def plan_trie(processor: Any) -> AnswerTrie:
    texts = [plan_text(speed, path) for speed, path in PLANS]
    return AnswerTrie.build([processor.tokenizer(text, add_special_tokens=False).input_ids for text in texts])


def followers(trie: AnswerTrie, prefix: list[int]) -> list[int]:
    """Tokens that may follow `prefix` in an answer."""
    t = len(prefix)
    return [row[t] for row in trie.answers if list(row[:t]) == prefix and len(row) > t]


def one_pass(model: Any, inputs: dict[str, Any], trie: AnswerTrie, last: bool = True) -> Any:
    prefilled = model(**inputs, use_cache=True)
    logits = prefilled.logits[:, -1]
    if not last and prefilled.logits.shape[1] == inputs["input_ids"].shape[1]:
        # Padded on the right and never cut: the last tokens stand where the prompts end.
        logits = prefilled.logits[torch.arange(len(logits)), inputs["attention_mask"].sum(1) - 1]
    lengths = [prefilled.past_key_values.get_seq_length(layer) for layer in range(4)]
    scores = score_answers(model, prefilled.past_key_values, logits, trie)
    assert [prefilled.past_key_values.get_seq_length(layer) for layer in range(4)] == lengths
    return scores


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("positions", ["original", "repacked"])
@pytest.mark.parametrize("fractions", [ALL, LATE, EARLY])
@torch.no_grad()
def test_equals_twenty_teacher_forced_passes(attention: str, positions: str, fractions: tuple[float, ...]) -> None:
    model, processor = tiny_senna(attn_implementation=attention)
    inputs, trie = inputs_for(model, processor, (6.0, 0.0)), plan_trie(processor)
    with prune(model, ScriptedPruner(fractions, positions=positions)):
        scores = one_pass(model, inputs, trie)
        for number, answer in enumerate(trie.answers):
            prefilled = model(**inputs, use_cache=True, logits_to_keep=1)
            ids = torch.tensor([answer]).expand(2, -1)
            logits = [prefilled.logits[:, -1]]
            for t in range(ids.shape[1] - 1):
                step = {"input_ids": ids[:, t : t + 1], "past_key_values": prefilled.past_key_values}
                extra = torch.ones(2, t + 1, dtype=torch.long)
                mask = torch.cat([inputs["attention_mask"], extra], dim=1)
                logits.append(model(**step, attention_mask=mask).logits[:, -1])
            conditionals = torch.stack(logits, dim=1).log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
            torch.testing.assert_close(
                scores.log_probabilities[:, number], conditionals.sum(-1), atol=1e-4, rtol=1e-5, msg=f"answer {number}"
            )
    torch.testing.assert_close(scores.distribution.sum(-1), torch.ones(2))


@torch.no_grad()
@pytest.mark.parametrize("seed", range(3))
def test_greedy_equals_constrained_generation(seed: int) -> None:
    model, processor = tiny_senna(seed=seed)
    inputs, trie = inputs_for(model, processor, (6.0, 12.0, 0.0)), plan_trie(processor)
    width, eos = inputs["input_ids"].shape[1], model.config.text_config.eos_token_id
    with prune(model, ScriptedPruner(LATE)):
        greedy = one_pass(model, inputs, trie).greedy()
        spelled = model.generate(
            **inputs,
            max_new_tokens=16,
            do_sample=False,
            prefix_allowed_tokens_fn=lambda _, ids: followers(trie, ids[width:].tolist()) or [eos],
        )[:, width:]
    for number, ids in zip(greedy, spelled.tolist(), strict=True):
        assert ids[: len(trie.answers[number])] == list(trie.answers[number])


@pytest.mark.parametrize("fractions", [ALL, LATE, EARLY])
@torch.no_grad()
def test_padding_does_not_matter(fractions: tuple[float, ...]) -> None:
    model, processor = tiny_senna()
    trie, pruner = plan_trie(processor), ScriptedPruner(fractions)
    with prune(model, pruner):
        expected = one_pass(model, inputs_for(model, processor, (6.0, 12.0)), trie).log_probabilities
        right = one_pass(model, inputs_for(model, processor, (6.0, 12.0), "right"), trie, last=False).log_probabilities
        wide = inputs_for(model, processor, (6.0, 12.0))
        wide["input_ids"] = torch.nn.functional.pad(wide["input_ids"], (9, 0))
        wide["attention_mask"] = torch.nn.functional.pad(wide["attention_mask"], (9, 0))
        more = one_pass(model, wide, trie).log_probabilities
    torch.testing.assert_close(right, expected, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(more, expected, atol=1e-3, rtol=1e-4)


def test_the_context_that_made_the_cache_is_needed() -> None:
    model, processor = tiny_senna()
    with torch.no_grad(), pytest.raises(InputError, match="prune context"):
        one_pass(model, inputs_for(model, processor), plan_trie(processor))


def test_trie_shares_prefixes() -> None:
    trie = AnswerTrie.build([(1, 2, 3), (1, 2, 4), (5, 6)])
    assert trie.nodes.tolist() == [1, 5, 2]
    assert trie.tree.depths.tolist() == [0, 0, 1]
    assert trie.tree.visible.tolist() == [[True, False, False], [False, True, False], [True, False, True]]
    assert trie.step_nodes.tolist() == [[0, 1, 3], [0, 1, 3], [0, 2, -1]]
    with pytest.raises(InputError, match="begins another"):
        AnswerTrie.build([(1, 2), (1, 2, 3)])


@torch.no_grad()
def test_under_flash_attention_the_tree_is_read_by_sdpa(monkeypatch: pytest.MonkeyPatch) -> None:
    def flash(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **rest: Any) -> Any:
        """What the flash kernels compute: causal rows, and no mask of more than two dimensions."""
        assert mask is None or mask.ndim == 2
        causal = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril(key.shape[2] - query.shape[2])
        seen = causal if mask is None else causal & mask[:, None, None].bool()
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, seen | ~seen.any(-1, True))
        return out.transpose(1, 2), None

    model, processor = tiny_senna()
    inputs, trie = inputs_for(model, processor, (6.0, 0.0)), plan_trie(processor)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", flash)
    distributions = []
    for attention in ("sdpa", "flash_attention_2"):
        model.model.language_model.config._attn_implementation = attention
        with prune(model, ScriptedPruner(LATE)):
            distributions.append(one_pass(model, inputs, trie).distribution)
        assert model.model.language_model.config._attn_implementation == attention
    torch.testing.assert_close(*distributions, atol=1e-4, rtol=0)
