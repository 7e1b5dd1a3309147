"""Captured passes: traced without data, equal to the hooks' own numbers, eager where there is no graph."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from senna_prune.engine.captured import CapturedDecoder, EagerFallback
from senna_prune.planner.planner import Planner, pruner_for
from senna_prune.pruning import Budget, Pruner
from senna_prune.pruning.base import Observation, Selection
from senna_prune.pruning.registry import method_names
from senna_prune.task.prompts import planning_question
from tests.fakes import tiny_senna, tiny_views

QUESTIONS = [planning_question(6.0, "go straight"), planning_question(11.5, "turn left")]
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile needs a C++ compiler"
)


def as_traced(graph: torch.fx.GraphModule, device: torch.device) -> Any:
    """In place of a compiler: the traced operations as they are."""
    return graph


def planners(method: str, compile: Any = as_traced, **options: Any) -> tuple[Planner, Planner, Pruner]:
    """An eager planner, a captured one, and the pruner both decide with: the one with few schedules."""
    model, processor = tiny_senna()
    pruner = pruner_for(model, method, Budget.retention(0.5), **options)
    eager, captured = Planner(model, processor, pruner), Planner(model, processor, pruner)
    captured.captured = CapturedDecoder(compile=compile)
    return eager, captured, captured.captured.pruner(pruner)


@pytest.mark.slow
@pytest.mark.parametrize("method", method_names())
def test_traced_passes_give_the_same_bits(method: str) -> None:
    """Tracing sees shapes alone: what depended on data would be refused with a warning, which is an error here."""
    eager, captured, pruner = planners(method)
    with warnings.catch_warnings():
        warnings.simplefilter("error", EagerFallback)
        for question in (*QUESTIONS, QUESTIONS[0]):
            frame = eager.encode(tiny_views(), question)
            plain, traced = eager.decide(frame, pruner), captured.decide(frame)
            assert traced.distribution == plain.distribution
            assert traced.trace.kept() == plain.trace.kept()
            assert traced.trace.per_view() == plain.trace.per_view()
            assert traced.trace.complexity == plain.trace.complexity


@pytest.mark.parametrize("most", [64, 1])
@pytest.mark.filterwarnings("ignore::senna_prune.engine.captured.EagerFallback")
def test_generation_goes_on_behind_a_captured_prompt(most: int) -> None:
    """Also where the second of its two graphs is one too many: the cache must not hold the first layers twice."""
    eager, captured, pruner = planners("autoprune")
    assert captured.captured is not None
    captured.captured.most = most
    for planner in (eager, captured):
        planner.readout, planner.max_new_tokens = "generate", 6
    frame = eager.encode(tiny_views(), QUESTIONS[0])
    plan, plain = captured.decide(frame), eager.decide(frame, pruner)
    assert (plan.text, plan.trace.kept()) == (plain.text, plain.trace.kept())
    assert len(captured.captured.graphs) == min(most, 2)


def test_graphs_are_kept_by_length_and_schedule() -> None:
    eager, captured, _ = planners("fastv")
    frames = [eager.encode(tiny_views(seed), question) for seed, question in enumerate(QUESTIONS)]
    known = []
    for frame in (*frames, *frames):
        captured.decide(frame)
        assert captured.captured is not None
        known.append(len(captured.captured.graphs))
    different = len({len(frame.input_ids) for frame in frames})
    assert known == [2, 2 * different, 2 * different, 2 * different]


def test_without_a_graph_it_runs_eagerly_and_says_so_once() -> None:
    eager, captured, _ = planners("autoprune")
    captured.captured = CapturedDecoder(compile=as_traced, most=0)
    frame = eager.encode(tiny_views(), QUESTIONS[0])
    with pytest.warns(EagerFallback, match="runs eagerly") as said:
        plans = [captured.decide(frame), captured.decide(frame)]
    assert len(said) == 1
    few = captured.captured.pruner(captured.pruner)
    assert [plan.distribution for plan in plans] == 2 * [eager.decide(frame, few).distribution]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "most"), [("fastv", 64), ("autoprune", 24)])
def test_a_warm_planner_makes_no_graph_for_any_command_and_speed(method: str, most: int) -> None:
    _, captured, _ = planners(method)
    graphs = captured.captured = CapturedDecoder(compile=as_traced, most=most)
    lengths, made = len(captured.prompts), captured.warm_up()
    assert 2 + 2 * lengths <= made <= most
    if method != "autoprune":
        assert made == 2 + 2 * lengths
    with warnings.catch_warnings():
        warnings.simplefilter("error", EagerFallback)
        for number, (speed, command) in enumerate([(3.0, "turn left"), (38.9, "go straight and turn right")]):
            captured.decide(captured.encode(tiny_views(number), planning_question(speed, command)))
    assert len(graphs.graphs) == made
    assert graphs.assumed is None


@dataclass
class _Forced:
    """Acts as `pruner`, but carries out the selections of another pass, and holds them against its own."""

    pruner: Pruner
    forced: list[list[int]]
    disagreements: list[float] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pruner, name)

    def select(self, observation: Observation, keep_total: int, merged: int) -> Selection:
        own = self.pruner.select(observation, keep_total, merged).keep
        wanted = torch.tensor(self.forced[observation.layer])
        keep = torch.isin(observation.origin, wanted).nonzero().squeeze(-1)
        score = self.pruner.score(observation)
        others = own[~torch.isin(own, keep)], keep[~torch.isin(keep, own)]
        self.disagreements += [float(a - b) for a, b in zip(*(score[x].sort().values for x in others), strict=True)]
        return Selection(keep)


@needs_compiler
@pytest.mark.parametrize(("method", "options"), [("autoprune", {"variant": "paper"}), ("fastv", {})])
@pytest.mark.slow
def test_compiled_keeps_what_eager_keeps_unless_scores_tie(method: str, options: dict[str, Any]) -> None:
    """Under the compiled pass's own selections, the eager one differs by rounding alone."""
    eager, _, _ = planners(method, **options)
    compiled = Planner(eager.model, eager.processor, eager.pruner, compiled=True)
    frame = eager.encode(tiny_views(), QUESTIONS[0])
    found = compiled.decide(frame)
    assert compiled.captured is not None
    forced: Any = _Forced(compiled.captured.pruner(eager.pruner), found.trace.kept())
    plain = eager.decide(frame, forced)
    assert all(abs(difference) < 1e-5 for difference in forced.disagreements)
    assert plain.trace.entering == found.trace.entering
    assert plain.distribution is not None
    assert found.distribution is not None
    for plan, share in plain.distribution.items():
        assert found.distribution[plan] == pytest.approx(share, abs=1e-4)


@torch.inference_mode()
def test_tower_and_adapter_are_graphs_for_single_frames() -> None:
    eager, captured, _ = planners("autoprune")
    assert captured.captured is not None
    loaded = [eager.preprocess(tiny_views(seed), QUESTIONS[0]) for seed in (0, 1)]
    captured.encode_images(loaded)
    assert not captured.captured.graphs
    for one in loaded:
        (traced,), (plain,) = captured.encode_images([one]), eager.encode_images([one])
        torch.testing.assert_close(traced.tokens, plain.tokens, rtol=0, atol=1e-5)
        assert torch.equal(traced.vision_scores.score, plain.vision_scores.score)
    assert len(captured.captured.graphs) == 2
    captured.model.set_attn_implementation("eager")
    captured.captured.graphs.clear()
    captured.encode_images(loaded[:1])
    assert not captured.captured.graphs


def test_a_pruner_that_does_not_come_again_takes_no_graph() -> None:
    eager, captured, pruner = planners("autoprune")
    frame = eager.encode(tiny_views(), QUESTIONS[0])
    plan = captured.decide_batch([frame], pruner, compiled=False)[0]
    assert plan.distribution == eager.decide(frame, pruner).distribution
    assert captured.captured is not None
    assert not captured.captured.graphs
