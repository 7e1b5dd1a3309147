"""What a policy sees at a boundary: attention rows, keys, text beside the views."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from senna_prune.engine import prune
from senna_prune.engine.decoder import Capture, find_decoder
from senna_prune.errors import PruningError
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.base import KEYS, LAST_ATTENTION, NEXT_ATTENTION, NORMED, TEXT_ATTENTION, VISION
from tests.engine.policies import ScriptedPruner
from tests.engine.test_prefill import LATE, inputs_for, read
from tests.fakes import tiny_senna


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
        read(model, inputs, pruner, use_cache=use_cache)
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
    read(model, inputs, pruner, use_cache=use_cache)
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
    read(model, inputs, pruner, position_ids=positions)
    for sample, observation in enumerate(pruner.seen[:2]):
        real = inputs["attention_mask"][sample].bool()
        config = model.config
        layout = TokenLayout.from_ids(inputs["input_ids"][sample][real], config.image_token_id, config.num_view_tokens)
        wanted = layout.question if scope == "question" else layout.text
        queries = observation.queries
        rows = range(len(real[real]))[-queries:] if isinstance(queries, int) else queries.tolist()
        assert list(rows) == wanted.tolist()
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


def attention_seen(need: str, **inputs: Any) -> list[Tensor]:
    model, processor = tiny_senna()
    pruner = ScriptedPruner(LATE, needs=frozenset({need}))
    read(model, inputs_for(model, processor, **inputs), pruner)
    return [observation.attention for observation in pruner.seen]


def test_probe_does_not_look_at_padding() -> None:
    sides = [attention_seen(TEXT_ATTENTION, speeds=(6.0, 12.0), side=side) for side in ("left", "right")]
    for left, right in zip(*sides, strict=True):
        torch.testing.assert_close(left, right, atol=1e-4, rtol=1e-3)


def test_the_last_of_the_text_rows_is_the_last_tokens() -> None:
    text, last = attention_seen(TEXT_ATTENTION)[0], attention_seen(LAST_ATTENTION)[0]
    assert text.shape[1] > last.shape[1] == 1
    torch.testing.assert_close(text[:, -1:], last)


@pytest.mark.parametrize("needs", [{TEXT_ATTENTION, LAST_ATTENTION}, {LAST_ATTENTION, NEXT_ATTENTION}])
def test_two_kinds_of_attention_are_refused(needs: set[str]) -> None:
    model, _ = tiny_senna()
    with pytest.raises(PruningError, match="one kind of attention"), prune(model, ScriptedPruner(LATE, needs=needs)):
        pass


@pytest.mark.parametrize(("asks", "expected"), [({TEXT_ATTENTION}, 2), (set(), 0), ({VISION}, 0)])
def test_rows_are_computed_once_and_only_if_asked_for(
    asks: set[str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Complexity and scorer share the rows of a layer; LATE cuts before layers 2 and 3."""
    model, processor = tiny_senna()
    calls, rows = list[int](), Capture.rows
    monkeypatch.setattr(Capture, "rows", lambda self, *args: calls.append(self.layer) or rows(self, *args))

    pruner = ScriptedPruner(LATE, needs=frozenset(asks), measured_layer=1, complexity=lambda seen: seen.hidden.mean())
    assert read(model, inputs_for(model, processor), pruner)[1].samples[0].complexity is not None
    assert len(calls) == expected
