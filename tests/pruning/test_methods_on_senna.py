"""Every registered method on a tiny Senna: six cameras, ragged batches, through `generate`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from senna_prune.engine import prune
from senna_prune.planner.planner import pruner_for
from senna_prune.pruning import Budget, Pruner, method_names
from senna_prune.task.prompts import planning_prompt, planning_question
from tests.fakes import tiny_senna, tiny_views
from tests.pruning.scenes import BUDGETED
from tests.replay import Recorder

QUESTIONS = [planning_question(0.0, "turn right"), planning_question(11.0, "go straight and turn left")]


def policy_for(model: Any, name: str, retention: float, **options: Any) -> Pruner:
    return pruner_for(model, name, Budget.retention(retention), **options)


def batch_of(processor: Any, numbers: list[int]) -> dict[str, Any]:
    prompts = [planning_prompt(QUESTIONS[i]) for i in numbers]
    return dict(processor(text=prompts, images=[tiny_views(seed=i) for i in numbers], padding_side="left"))


@torch.no_grad()
def answer(model: Any, inputs: dict[str, Any], policy: Any) -> tuple[Tensor, Any]:
    """Logits (batch, 3, vocabulary) of three steps of `generate` whose answer is given, and the trace."""
    width, given = inputs["input_ids"].shape[1], (11, 12, 13)

    def generate() -> Tensor:
        out = model.generate(
            **inputs,
            max_new_tokens=len(given),
            do_sample=False,
            prefix_allowed_tokens_fn=lambda _, ids: [given[len(ids) - width]],
            output_logits=True,
            return_dict_in_generate=True,
        )
        return torch.stack(out.logits, dim=1)

    if policy is None:
        return generate(), None
    with prune(model, policy) as trace:
        return generate(), trace


@pytest.fixture(scope="module")
def senna() -> tuple[Any, Any]:
    return tiny_senna()


@pytest.mark.parametrize("name", BUDGETED)
def test_a_full_budget_changes_no_bit(senna: tuple[Any, Any], name: str) -> None:
    model, processor = senna
    inputs = batch_of(processor, [0, 1])
    plain, _ = answer(model, inputs, None)
    pruned, _ = answer(model, inputs, policy_for(model, name, 1.0))
    assert torch.equal(plain, pruned)


@pytest.mark.parametrize("positions", ["original", "repacked"])
@pytest.mark.parametrize("name", method_names())
def test_a_batch_gives_what_its_samples_give(senna: tuple[Any, Any], name: str, positions: str) -> None:
    model, processor = senna
    policy = policy_for(model, name, 0.5, positions=positions)
    noted = [Recorder(policy) for _ in range(2)]
    singles = [answer(model, batch_of(processor, [i]), recorder) for i, recorder in enumerate(noted)]
    repeated = Recorder(policy, noted)
    together, trace = answer(model, batch_of(processor, [0, 1]), repeated)
    assert repeated.all_repeated()
    for i, (alone, single) in enumerate(singles):
        torch.testing.assert_close(together[i], alone[0], atol=1e-4, rtol=1e-3)
        mine, its = trace.samples[i], single.samples[0]
        assert mine.entering == its.entering == mine.counts.tokens[:-1]
        for ours, theirs in zip(mine.origins, its.origins, strict=True):
            assert ours.tolist() == theirs.tolist()
        for layer, origin in enumerate(mine.origins):
            kept = origin[origin >= 0].tolist()
            assert kept == sorted(set(kept))
            assert mine.views[layer].tolist() == sorted(mine.views[layer].tolist())


@pytest.mark.parametrize("name", BUDGETED)
def test_no_camera_goes_blind(senna: tuple[Any, Any], name: str) -> None:
    model, processor = senna
    nothing_behind = (1.0, 1.0, 1.0, 1.0, 1.0, 0.0)

    def survivors(**options: int) -> list[list[int]]:
        """Tokens of each view that every layer has left, without those merged right before it."""
        policy = policy_for(model, name, 0.6, view_weights=nothing_behind, **options)
        sample = answer(model, batch_of(processor, [0]), policy)[1].samples[0]
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
def test_beams_score_what_teacher_forcing_scores(senna: tuple[Any, Any], name: str) -> None:
    model, processor = senna
    policy, inputs = policy_for(model, name, 0.5), batch_of(processor, [0, 1])
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
