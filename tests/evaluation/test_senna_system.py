"""The real system on a tiny random Senna: its decisions, its traces, its cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.cost import decoder_flops, kv_bytes, projection_flops
from senna_prune.engine import prune
from senna_prune.errors import CheckpointError, InputError, PruningError
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.run.planning_set import planning_set
from senna_prune.evaluation.run.reading import ImageReader
from senna_prune.evaluation.run.records import Condition, Decision
from senna_prune.evaluation.run.senna_system import SennaSystem, sample_seed
from senna_prune.evaluation.run.system import Task
from senna_prune.files import read_lines
from senna_prune.model.packed_linear import PackedLinear
from senna_prune.planner.planner import pruner_for
from senna_prune.pruning.budget import Budget
from senna_prune.task.objects import SeenObject
from senna_prune.task.prompts import planning_prompt
from senna_prune.task.sample import PlanningSample
from tests.evaluation.checkpoint import write_checkpoint, write_planning_set

METHODS = "none,autoprune,fastervlm,sparsevlm,random,blind"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that name a checkpoint and a planning set."""
    work = tmp_path_factory.mktemp("senna")
    write_checkpoint(work / "model", num_layers=8)
    path = write_planning_set(work / "data")
    return [f"data.planning_set={path}", f"data.image_root={path.parent}", f"model.path={work / 'model'}"]


@pytest.fixture(scope="module")
def system(given: list[str]) -> SennaSystem:
    system = SennaSystem(load_config(EvaluationConfig, overrides=[*given, "readout.max_new_tokens=4"]))
    system.load()
    return system


def decide(
    system: SennaSystem, samples: Sequence[PlanningSample], condition: Condition, depths: bool = True
) -> list[Decision]:
    reader = ImageReader(Path(system.config.data.image_root), {})
    prepared = [system.prepare(Task(sample, (), depths, {}), reader.read(sample)[0]) for sample in samples]
    return next(system.decide(prepared, [condition]))


@pytest.mark.parametrize("readout", ["generate", "one_pass"])
def test_whole_evaluation(given: list[str], tmp_path: Path, readout: str) -> None:
    overrides = [f"output={tmp_path}/run", f"pruning.methods=[{METHODS}]", f"readout.mode={readout}"]
    config = load_config(
        EvaluationConfig, overrides=[*given, *overrides, "readout.max_new_tokens=4", "scoring.resamples=20"]
    )
    evaluate(config, SennaSystem(config))
    lines = [line for _, line in read_lines(tmp_path / "run" / "decisions.jsonl")]
    assert len(lines) == 4 * 6
    for line in lines:
        trace, method = line["trace"], line["condition"].partition("@")[0]
        assert [sum(layer) for layer in trace["per_view"]] == trace["entering"]
        assert trace["after"][:-1] == trace["entering"][1:]
        assert (trace["complexity"] is not None) == (method == "autoprune")
        if method not in ("autoprune", "sparsevlm"):
            # Without merging, the depths of the tokens are the tokens of the layers.
            assert sum(trace["depths"]) == sum(trace["entering"])
        if readout == "one_pass":
            assert sum(line["distribution"]) == pytest.approx(1, abs=1e-4)
            assert len(line["distribution"]) == 20
        else:
            assert line["distribution"] is None
            assert 0 < line["readout_positions"] <= 3
    means = {line["condition"]: sum(line["trace"]["entering"]) / 8 for line in lines}
    assert means["none"] == 48
    assert means["blind"] == 0
    assert all(abs(means[f"{name}@0.25"] - 12) <= 0.5 for name in ("autoprune", "fastervlm", "sparsevlm"))
    times = json.loads((tmp_path / "run" / "timing.json").read_text(encoding="utf-8"))["rows"]
    assert set(times["none"]["p50"]) == {"preprocess", "vision", "adapter", "prefill", "readout", "total"}


def test_unpruned_decision_is_the_plain_models(system: SennaSystem) -> None:
    sample = planning_set(system.config.data).samples[0]
    root = Path(system.config.data.image_root)
    (decision,) = decide(system, [sample], Condition("none", "none"), depths=False)
    inputs = system.planner.processor(planning_prompt(sample.question), [root / path for path in sample.view_paths()])
    ids = system.planner.model.generate(**inputs, max_new_tokens=4, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    assert decision.answer == system.planner.processor.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
    assert decision.trace.depths is None


def test_flops_and_cache_agree_with_what_ran(system: SennaSystem) -> None:
    """Against the budget's arithmetic, and against the cache that a pruned prefill really leaves."""
    sample = planning_set(system.config.data).samples[0]
    condition = Condition("autoprune", "autoprune", 0.25)
    trace = decide(system, [sample], condition)[0].trace
    budget = system.shape.decoder_cost(trace.text)
    assert decoder_flops(system.shape, trace.entering, trace.text) == pytest.approx(
        sum(budget.layer(count) for count in trace.entering)
    )
    root = Path(system.config.data.image_root)
    inputs = system.planner.processor(planning_prompt(sample.question), [root / path for path in sample.view_paths()])
    pruner = pruner_for(system.planner.model, "autoprune", Budget.retention(0.25))
    with torch.inference_mode(), prune(system.planner.model, pruner):
        cache = system.planner.model(**inputs, use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert kv_bytes(system.shape, trace.entering, trace.text) == held


def test_cost_of_vision_counts_the_real_weights(system: SennaSystem) -> None:
    """FLOPs of the linear maps are twice their weights times the rows they are applied to."""
    shape, inner = system.shape, system.planner.model.model
    projector = sum(p.numel() for p in inner.multi_modal_projector.parameters() if p.ndim == 2)
    adapter = sum(p.numel() for p in inner.img_adapter.parameters() if p.ndim == 2)
    expected = 2 * 6 * (projector * shape.patches + adapter * shape.width)
    assert projection_flops(shape) == expected


@pytest.mark.parametrize("batch", [1, 2])
def test_oracles_keep_or_drop_first_what_sees_the_nearest_objects(system: SennaSystem, batch: int) -> None:
    samples = planning_set(system.config.data).samples[:batch]
    boxes = [{"CAM_BACK": (0.0, 0.0, 20.0, 20.0)}, {"CAM_FRONT": (30.0, 20.0, 50.0, 40.0)}]
    seen = [(SeenObject("car", box, 9.0), SeenObject("cone", boxes[i - 1], 99.0)) for i, box in enumerate(boxes)]
    told = [replace(sample, objects=objects) for sample, objects in zip(samples, seen, strict=False)]
    kept = {}
    for method in ("oracle", "anti_oracle", "uniform"):
        condition = Condition(method, method, 0.5, resolved={} if method == "uniform" else {"nearness": None})
        depths = [decision.trace.depths for decision in decide(system, told, condition)]
        kept[method] = [{token for token, depth in enumerate(own or ()) if depth} for own in depths]
        assert [len(own) for own in kept[method]] == [24] * batch
    for i, sample in enumerate(told):
        near = system.seen.nearness(sample)
        sees = {token for token, value in enumerate(near) if value}
        assert 0 < len(sees) <= 24
        assert sees <= kept["oracle"][i]
        assert not sees & kept["anti_oracle"][i]
        assert kept["oracle"][i] != kept["uniform"][i] != kept["anti_oracle"][i]
        views = {sample.cameras[token // 8] for token in sees}
        assert views == {"CAM_BACK", "CAM_FRONT"}
    with pytest.raises(InputError, match="does not tell its objects"):
        system.resolve(condition := Condition("oracle", "oracle", 0.5, resolved={"nearness": None}), samples[0])
    with pytest.raises(InputError, match="does not tell its objects"):
        decide(system, samples, condition)


def test_random_draws_anew_for_every_sample_and_repeats(system: SennaSystem) -> None:
    first, second = planning_set(system.config.data).samples[:2]
    condition = Condition("random", "random", 0.25, seed=0)
    draws = [decide(system, [sample], condition)[0].trace.depths for sample in (first, second, first)]
    assert draws[0] == draws[2]
    assert draws[0] != draws[1]
    assert [decision.trace.depths for decision in decide(system, [first, second], condition)] == draws[:2]
    assert sample_seed(0, "a") != sample_seed(1, "a")


def test_resolving_needs_no_weights(given: list[str], tmp_path: Path) -> None:
    config = load_config(EvaluationConfig, overrides=given)
    sample = planning_set(config.data).samples[0]
    system = SennaSystem(config)
    schedule = system.resolve(Condition("autoprune", "autoprune", 0.25), sample)
    assert sum(schedule.entering) / 8 == pytest.approx(12, abs=0.5)
    assert "every sample gets its own" in schedule.note
    assert system.resolve(Condition("none", "none"), sample).entering == (48,) * 8
    with pytest.raises(AssertionError):
        _ = system.planner


def test_published_accounting_counts_as_the_method_does(given: list[str]) -> None:
    overrides = [*given, "pruning.accounting=published"]
    config = load_config(EvaluationConfig, overrides=overrides)
    schedule = SennaSystem(config).resolve(
        Condition("autoprune", "autoprune", 0.25), planning_set(config.data).samples[0]
    )
    assert sum(schedule.entering) / 8 > 13
    assert "published accounting" in schedule.note


def test_bad_option_is_found_before_loading(given: list[str], tmp_path: Path) -> None:
    overrides = [*given, f"output={tmp_path}/run", "pruning.options.autoprune.variantt=paper"]
    config = load_config(EvaluationConfig, overrides=overrides)
    with pytest.raises(PruningError, match="variantt"):
        evaluate(config, SennaSystem(config))
    assert not (tmp_path / "run").exists()


def test_absent_checkpoint(given: list[str], tmp_path: Path) -> None:
    config = load_config(EvaluationConfig, overrides=[*given, f"model.path={tmp_path}/absent"])
    with pytest.raises(CheckpointError, match="absent"):
        evaluate(config, SennaSystem(config))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_packed_weights_are_used_and_give_the_same_distribution(given: list[str]) -> None:
    config = load_config(EvaluationConfig, overrides=[*given, "readout.mode=one_pass", "model.packed=true"])
    packed, plain = SennaSystem(config), SennaSystem(replace(config, model=replace(config.model, packed=False)))
    samples, decided = planning_set(config.data).samples[:2], []
    for one in (packed, plain):
        one.load()
        # Every token is kept: a score that decides may differ in its last bits.
        decided.append(decide(one, samples, Condition("none", "none")))
    assert any(isinstance(module, PackedLinear) for module in packed.planner.model.modules())
    for ours, theirs in zip(*decided, strict=True):
        assert ours.distribution == pytest.approx(theirs.distribution, abs=1e-4)
