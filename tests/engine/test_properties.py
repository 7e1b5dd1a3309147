"""What holds for every method, budget and number of cameras, on a ragged batch of two through the engine."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from senna_prune.engine import PruneTrace, prune
from senna_prune.pruning import Budget, Pruner, make_pruner, method_names
from senna_prune.pruning.budget import TOLERANCE
from senna_prune.task.prompts import planning_prompt
from tests.fakes import tiny_senna, tiny_views

few = settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@lru_cache(maxsize=4)
def host(num_views: int, view_tokens: int) -> tuple[Any, dict[str, Any]]:
    """A model of `num_views` cameras and two prompts of different lengths."""
    model, processor = tiny_senna(num_views=num_views, num_view_tokens=view_tokens)
    views = "".join(f"<V{i}>:\n<image>\n" for i in range(num_views))
    prompts = [planning_prompt(views + question) for question in ("Which way now?", "Why?")]
    images = [tiny_views(seed=i, num_views=num_views) for i in range(2)]
    inputs = dict(processor(text=prompts, images=images, padding_side="left"))
    # Padding must not shift positions: DART reads the L1 norm of rotated keys, which depends on them.
    return model, inputs | {"position_ids": (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)}


@torch.no_grad()
def read(model: Any, inputs: dict[str, Any], policy: Pruner) -> tuple[Tensor, PruneTrace]:
    """Logits behind the prompts, (batch, vocabulary), and the trace."""
    with prune(model, policy) as trace:
        return model(**inputs).logits[:, -1], trace


def single(inputs: dict[str, Any], i: int) -> dict[str, Any]:
    """Sample `i` without its padding."""
    row = {key: value[i : i + 1] for key, value in inputs.items()}
    real = row["attention_mask"][0].bool()
    return row | {key: row[key][:, real] for key in ("input_ids", "attention_mask", "position_ids")}


@pytest.mark.parametrize("name", method_names())
@given(
    retention=st.floats(0.05, 1.0),
    views=st.sampled_from([(1, 8), (2, 5), (6, 8), (12, 3)]),
    positions=st.sampled_from(["original", "repacked"]),
)
@few
def test_every_method_keeps_its_promises(name: str, retention: float, views: tuple[int, int], positions: str) -> None:
    model, inputs = host(*views)
    budget = Budget.retention(retention)
    num_visual = views[0] * views[1]
    shape = {"num_layers": 4, "num_heads": 4, "num_visual": num_visual}
    policy = make_pruner(name, budget, **shape, positions=positions)
    logits, trace = read(model, inputs, policy)
    again, repeated = read(model, inputs, policy)
    assert torch.equal(logits, again)
    assert [s.kept() for s in trace.samples] == [s.kept() for s in repeated.samples]

    prompts = inputs["attention_mask"].sum(1).tolist()
    assert prompts[0] != prompts[1]
    for i, sample in enumerate(trace.samples):
        assert sample.num_text == prompts[i] - num_visual, "text is never cut"
        assert [lengths[i] - sample.num_text for lengths in trace.cache_lengths] == list(sample.entering)
        assert sample.entering == sample.counts.tokens[:-1]
        for kept in sample.kept():
            assert kept == sorted(set(kept))
            assert set(kept) <= set(range(num_visual))
        found = policy.resolve(num_visual, 4, sample.complexity)
        assert found.plan == sample.counts
        target, mean = retention * num_visual, sum(sample.entering) / 4
        assert found.note or mean == pytest.approx(target, rel=TOLERANCE)

        alone, its = read(model, single(inputs, i), policy)
        torch.testing.assert_close(logits[i], alone[0], atol=1e-4, rtol=1e-4)
        assert its.samples[0].kept() == sample.kept()


@pytest.mark.parametrize("name", [name for name in method_names() if name != "blind"])
@pytest.mark.parametrize("views", [(1, 8), (12, 3)])
def test_a_full_budget_changes_no_bit(name: str, views: tuple[int, int]) -> None:
    model, inputs = host(*views)
    policy = make_pruner(name, Budget.retention(1.0), num_layers=4, num_heads=4, num_visual=views[0] * views[1])
    with torch.no_grad():
        plain = model(**inputs).logits[:, -1]
    assert torch.equal(read(model, inputs, policy)[0], plain)
