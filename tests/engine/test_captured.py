"""Captured passes: traced without data, equal to the hooks' own numbers, eager where there is no graph."""

from __future__ import annotations

import copy
import shutil
import warnings
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from senna_prune.engine import prune
from senna_prune.engine.captured import CapturedDecoder, EagerFallback
from senna_prune.errors import InputError, PruningError
from senna_prune.model.packed_linear import pack_linears
from senna_prune.planner.planner import Planner
from senna_prune.planner.pruners import pruner_for
from senna_prune.pruning import Budget, Pruner, make_pruner
from senna_prune.pruning.base import Observation, Selection
from senna_prune.pruning.methods.fastv import FastV
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


def test_generation_goes_on_behind_a_captured_prompt() -> None:
    eager, captured, pruner = planners("autoprune")
    for planner in (eager, captured):
        planner.readout, planner.max_new_tokens = "generate", 6
    frame = eager.encode(tiny_views(), QUESTIONS[0])
    assert captured.decide(frame).text == eager.decide(frame, pruner).text
    assert captured.captured is not None
    assert len(captured.captured.graphs) == 2


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
    eager, captured, pruner = planners("autoprune")
    captured.captured = CapturedDecoder(compile=as_traced, most=0)
    frame = eager.encode(tiny_views(), QUESTIONS[0])
    with pytest.warns(EagerFallback, match="runs eagerly") as said:
        plans = [captured.decide(frame), captured.decide(frame)]
    assert len(said) == 1
    assert [plan.distribution for plan in plans] == 2 * [eager.decide(frame, pruner).distribution]


class _Peeking(FastV):
    """A score that reads a number on the host."""

    def score(self, observation: Observation) -> Tensor:
        return observation.hidden.norm(dim=-1) * observation.hidden.sum().item()


def test_what_depends_on_data_is_not_captured() -> None:
    eager, captured, pruner = planners("fastv")
    peeking = _Peeking().bind(pruner.budget, pruner.num_layers, pruner.num_heads)
    frame = eager.encode(tiny_views(), QUESTIONS[0])
    with pytest.warns(EagerFallback, match="depends on data"):
        plan = captured.decide(frame, peeking)
    assert plan.distribution == eager.decide(frame, peeking).distribution


def test_a_frame_resized_on_the_device_is_decided_like_the_exact_one() -> None:
    """On a random model: nearly equal distributions, whatever the most probable plan."""
    model, processor = tiny_senna()
    exact, near = Planner(model, processor), Planner(model, processor, preprocess="device")
    plans = [planner.decide(planner.encode(tiny_views(), QUESTIONS[0])) for planner in (exact, near)]
    assert plans[0].distribution is not None
    assert plans[1].distribution is not None
    assert max(abs(plans[0].distribution[plan] - plans[1].distribution[plan]) for plan in plans[0].distribution) < 0.05
    with pytest.raises(InputError, match="'exact' or 'device'"):
        Planner(model, processor, preprocess="gpu")  # type: ignore[arg-type]


def test_batches_run_eagerly() -> None:
    eager, captured, pruner = planners("autoprune")
    frames = [eager.encode(tiny_views(seed), question) for seed, question in enumerate(QUESTIONS)]
    plain, other = eager.decide_batch(frames, pruner), captured.decide_batch(frames)
    assert [plan.distribution for plan in plain] == [plan.distribution for plan in other]
    assert captured.captured is not None
    assert not captured.captured.graphs


def test_no_compiler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    model, processor = tiny_senna()
    with pytest.raises(PruningError, match=r"no C\+\+ compiler"):
        Planner(model, processor, compiled=True)
    with pytest.raises(PruningError), prune(model, pruner_for(model, "none"), compiled=True):
        pass


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_packed_weights_are_not_compiled() -> None:
    model, processor = tiny_senna()
    pack_linears(model, model.model.img_adapter)
    with pytest.raises(PruningError, match="Choose packed or compiled"):
        Planner(model, processor, compiled=True)


def test_the_model_is_left_as_it_was() -> None:
    model, _ = tiny_senna()
    with prune(model, pruner_for(model, "none"), compiled=CapturedDecoder(compile=as_traced)):
        assert "forward" in vars(model.model.language_model)
    assert "forward" not in vars(model.model.language_model)


@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize("retention", [0.2, 0.25, 0.4])
def test_a_few_slopes_move_few_tokens(variant: str, retention: float) -> None:
    """Mean over layers, as a share of all visual tokens, at the complexity where it is worst."""
    pruner = make_pruner(
        "autoprune", Budget.retention(retention), num_layers=32, num_heads=32, num_visual=768, variant=variant
    )
    few = CapturedDecoder().pruner(pruner)
    assert len(few.levels(768, 32)) <= (8 if retention == 0.25 and variant == "released" else 15)
    worst = max(moved(pruner, few, number / 27) for number in range(57))
    assert 0 < worst <= 0.011  # between the complexities that were compared it may be a little more


def moved(pruner: Any, few: Any, complexity: float) -> float:
    """Mean over layers of the tokens that quantising moves, as a share of all visual tokens."""
    pairs = zip(*(p.plan(768, 32, complexity).tokens[:-1] for p in (pruner, few)), strict=True)
    return sum(abs(a - b) for a, b in pairs) / 32 / 768


@pytest.mark.parametrize(
    "options",
    [{}, {"variant": "paper"}, {"slope": "logistic"}, {"slope": "linear_discrete"}, {"gamma": -0.2}, {"k0": -0.1}],
)
def test_no_complexity_moves_many_tokens(options: dict[str, Any]) -> None:
    """Negative ones, as a cosine may be, and those above where Eq. 8 is clamped."""
    host = {"num_layers": 32, "num_heads": 32, "num_visual": 768}
    pruner = make_pruner("autoprune", Budget.retention(0.25), **host, **options)  # type: ignore[arg-type]
    few = CapturedDecoder().pruner(pruner)
    for complexity in (-40.0, -3.0, -1.0, -0.31, -0.02, 0.0, 0.4, 1.7, 2.4, 5.0, 90.0):
        assert moved(pruner, few, complexity) <= 0.011
    if "k0" not in options:  # its slope is 0 at all complexities from -0.5 on, and changes below
        assert len({few.plan(768, 32, -number / 100) for number in range(100)}) <= 6
    assert copy.deepcopy(few).plan(768, 32, 1.0) == few.plan(768, 32, 1.0)


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
