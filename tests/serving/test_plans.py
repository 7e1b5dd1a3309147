"""Plans through an engine: transformers' own `generate` on embeddings stands in for one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from senna_prune.errors import InputError, PruningError, ServingError
from senna_prune.planner.plan import Frame
from senna_prune.planner.planner import Planner, pruner_for
from senna_prune.pruning import Budget
from senna_prune.serving.plans import served_plans
from senna_prune.task.labels import CAMERAS, Command
from tests.fakes import tiny_senna, tiny_views


def planner_with(name: str, **options: Any) -> Planner:
    model, processor = tiny_senna()
    return Planner(model, processor, pruner_for(model, name, Budget.retention(0.5), **options), readout="generate")


class Generating:
    """Plain `generate`, one prompt after another."""

    def __init__(self, planner: Planner) -> None:
        self.planner, self.choices = planner, [""]

    @torch.no_grad()
    def answers(
        self, prompts: Iterable[Tensor], choices: Sequence[str] | None = None, max_tokens: int = 32
    ) -> Iterator[str]:
        self.choices, model = list(choices or []), self.planner.model
        for prompt in prompts:
            mask = torch.ones(1, len(prompt), dtype=torch.long)
            ids = model.generate(
                inputs_embeds=prompt[None], attention_mask=mask, do_sample=False, max_new_tokens=max_tokens
            )
            yield self.planner.processor.tokenizer.decode(ids[0], skip_special_tokens=True)


def frames(count: int) -> list[Frame]:
    return [Frame(dict(zip(CAMERAS, tiny_views(seed), strict=True)), 2.0, Command.LEFT) for seed in range(count)]


@pytest.mark.parametrize("name", ["none", "uniform", "fastervlm"])
def test_an_engine_gives_the_answers_of_the_planner(name: str) -> None:
    planner = planner_with(name, positions="repacked")
    engine, asked = Generating(planner), frames(3)
    served = list(served_plans(planner, engine, asked, max_tokens=8))
    planner.max_new_tokens = 8
    assert [plan.text for plan in served] == [plan.text for plan in planner.plan_batch(asked)]
    assert engine.choices[0] == " KEEP, STRAIGHT"  # with the space behind ASSISTANT:
    assert len(engine.choices) == 20
    assert len(served[0].tokens.cameras) == (48 if name == "none" else 24)


def test_what_no_engine_can_run_is_refused() -> None:
    with pytest.raises(ServingError, match="positions 'repacked'"):
        next(served_plans(planner_with("uniform", positions="original"), Generating(planner_with("none")), frames(1)))
    inside = planner_with("pyramiddrop")
    with pytest.raises(PruningError, match="inside the decoder"):
        list(served_plans(inside, Generating(inside), frames(1)))
    plain = planner_with("none")
    with pytest.raises(InputError, match="is not a speed"):
        list(served_plans(plain, Generating(plain), [Frame({}, -1.0, Command.LEFT)]))
