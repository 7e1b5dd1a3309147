"""What holds for every method, budget and number of cameras, on a ragged batch of two through the engine."""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from senna_prune.engine import PruneTrace, prune
from senna_prune.planner.planner import pruner_for
from senna_prune.pruning import Budget, Pruner, method_names
from senna_prune.pruning.budget import TOLERANCE
from senna_prune.task.prompts import planning_prompt
from tests.fakes import tiny_senna, tiny_views
from tests.pruning.scenes import BUDGETED
from tests.replay import Recorder

HALF = Budget.retention(0.5)
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
    num_visual, policy = views[0] * views[1], pruner_for(model, name, Budget.retention(retention), positions=positions)
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


@torch.no_grad()
def answer(model: Any, inputs: dict[str, Any], policy: Any) -> tuple[Tensor, Any]:
    """Logits (batch, 3, vocabulary) of three steps of `generate` whose answer is given, and the trace."""
    width, given = inputs["input_ids"].shape[1], (11, 12, 13)
    with nullcontext() if policy is None else prune(model, policy) as trace:
        out = model.generate(
            **{name: value for name, value in inputs.items() if name != "position_ids"},
            max_new_tokens=len(given),
            do_sample=False,
            prefix_allowed_tokens_fn=lambda _, ids: [given[len(ids) - width]],
            output_logits=True,
            return_dict_in_generate=True,
        )
    return torch.stack(out.logits, dim=1), trace


@pytest.mark.parametrize("name", [name for name in method_names() if name != "blind"])
def test_a_full_budget_changes_no_bit(name: str) -> None:
    for views in ((1, 8), (12, 3), (6, 8)):
        model, inputs = host(*views)
        policy = pruner_for(model, name)
        with torch.no_grad():
            plain = model(**inputs).logits[:, -1]
        assert torch.equal(read(model, inputs, policy)[0], plain)
    assert torch.equal(answer(model, inputs, policy)[0], answer(model, inputs, None)[0])


@pytest.mark.parametrize("positions", ["original", "repacked"])
@pytest.mark.parametrize("name", method_names())
def test_a_batch_gives_what_its_samples_give(name: str, positions: str) -> None:
    model, inputs = host(6, 8)
    policy = pruner_for(model, name, HALF, positions=positions)
    noted = [Recorder(policy) for _ in range(2)]
    singles = [answer(model, single(inputs, i), recorder) for i, recorder in enumerate(noted)]
    repeated = Recorder(policy, noted)
    together, trace = answer(model, inputs, repeated)
    assert repeated.all_repeated()
    for i, (alone, its) in enumerate(singles):
        torch.testing.assert_close(together[i], alone[0], atol=1e-4, rtol=1e-3)
        mine, theirs = trace.samples[i], its.samples[0]
        assert mine.entering == theirs.entering == mine.counts.tokens[:-1]
        assert [origin.tolist() for origin in mine.origins] == [origin.tolist() for origin in theirs.origins]
        for kept, views in zip(mine.kept(), mine.views, strict=True):
            assert kept == sorted(set(kept)) and views.tolist() == sorted(views.tolist())


@pytest.mark.parametrize("name", BUDGETED)
def test_no_camera_goes_blind(name: str) -> None:
    model, inputs = host(6, 8)

    def survivors(**options: int) -> list[list[int]]:
        """Tokens of each view that every layer has left, without those merged right before it; the last weighs 0."""
        weights = (1.0, 1.0, 1.0, 1.0, 1.0, 0.0)
        policy = pruner_for(model, name, Budget.retention(0.6), view_weights=weights, **options)
        sample = read(model, single(inputs, 0), policy)[1].samples[0]
        born = [origin == -1 - layer for layer, origin in enumerate(sample.origins)]
        return [views[~new].bincount(minlength=6).tolist() for views, new in zip(sample.views, born, strict=True)]

    assert min(counts[-1] for counts in survivors()) == 0, "the rear view should go blind on its own"
    left = survivors(min_tokens_per_view=1)
    assert all(min(counts) >= 1 for counts in left if sum(counts) >= 6)
    assert sum(left[-1]) >= 6, "no layer is looked at"


@torch.no_grad()
def teacher_forced(model: Any, row: dict[str, Any], tokens: Tensor) -> float:
    """Mean log-probability of `tokens`, fed one by one behind one prompt."""
    mask = row["attention_mask"]
    out = model(**row, position_ids=(mask.cumsum(1) - 1).clamp(min=0), use_cache=True)
    total = 0.0
    for step, token in enumerate(tokens):
        if step:
            mask = torch.cat([mask, mask.new_ones(1, 1)], dim=1)
            out = model(
                input_ids=tokens[None, step - 1 : step],
                past_key_values=out.past_key_values,
                attention_mask=mask,
                position_ids=mask.sum(1, keepdim=True) - 1,
                use_cache=True,
            )
        total += out.logits[0, -1].log_softmax(-1)[token].item()
    return total / len(tokens)


@pytest.mark.parametrize("name", ["autoprune", "fastv", "tome", "visionzip"])
def test_beams_score_what_teacher_forcing_scores(name: str) -> None:
    model, inputs = host(6, 8)
    policy, inputs = pruner_for(model, name, HALF), {k: v for k, v in inputs.items() if k != "position_ids"}
    rows = [{key: value[i : i + 1] for key, value in inputs.items()} for i in range(2)]
    noted = [Recorder(policy) for _ in rows]
    for row, recorder in zip(rows, noted, strict=True):
        with torch.no_grad(), prune(model, recorder):
            model(**row)
    with prune(model, Recorder(policy, [noted[k // 3] for k in range(6)])):
        beams = model.generate(
            **inputs,
            num_beams=3,
            num_return_sequences=3,
            max_new_tokens=4,
            min_new_tokens=4,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
        )
    answers = beams.sequences[:, inputs["input_ids"].shape[1] :]
    forced = []
    for k in range(6):
        with prune(model, Recorder(policy, [noted[k // 3]])):
            forced.append(teacher_forced(model, rows[k // 3], answers[k]))
    assert len({tuple(tokens) for tokens in answers.tolist()}) > 2
    assert beams.sequences_scores.tolist() == pytest.approx(forced, abs=1e-4)
