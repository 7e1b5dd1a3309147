"""From settings to the plan of work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from senna_prune.config import DataConfig, EvaluationConfig, PruningConfig, load_config
from senna_prune.errors import ConfigError, PruningError
from senna_prune.evaluation.run.controls import takes_measured
from senna_prune.evaluation.run.planning_set import planning_set
from senna_prune.evaluation.run.processes import Processes
from senna_prune.evaluation.run.sweep import expand
from senna_prune.evaluation.run.work import plan_of_work
from tests.conftest import ROOT
from tests.evaluation.dummy import make_planning_set


def test_sweep_order_and_ids() -> None:
    pruning = PruningConfig(
        methods=["random", "autoprune", "paper", "blind"],
        retentions=[0.2, 0.4],
        seeds=[0, 1],
        options={"paper": {"method": "autoprune", "variant": "paper"}},
    )
    ids = [condition.id for condition in expand(pruning)]
    assert ids[0] == "none"
    assert ids[1:5] == ["random@0.2#0", "random@0.2#1", "random@0.4#0", "random@0.4#1"]
    assert ids[5:] == ["autoprune@0.2", "autoprune@0.4", "paper@0.2", "paper@0.4", "blind"]
    assert expand(pruning)[-2].options == {"variant": "paper"}


def test_sweep_refuses_nonsense() -> None:
    with pytest.raises(PruningError, match="autoprune"):
        expand(PruningConfig(methods=["autoprun"]))
    with pytest.raises(ConfigError, match=r"'random@0\.25#0' is listed twice"):
        expand(PruningConfig(methods=["random", "random"]))
    with pytest.raises(ConfigError, match=r"'autoprune@0\.25' is listed twice"):
        expand(PruningConfig(retentions=[0.25, 0.25]))
    with pytest.raises(ConfigError, match=r"unknown value 'autoprnue'\. Did you mean 'autoprune'"):
        expand(PruningConfig(options={"autoprnue": {"variant": "paper"}}))


@pytest.mark.parametrize(
    ("methods", "added"),
    [
        (["autoprune"], ["random@0.25"]),  # repacked, as random's own default
        (["fastv"], ["random-original@0.25"]),
        (["fastv", "autoprune", "sparsevlm_v2"], ["random-original@0.25", "random@0.25"]),
        (["random", "fastervlm"], []),
        (["none", "blind"], []),
        (["random", "uniform-original"], ["random-original@0.25"]),
    ],
)
def test_random_is_added_at_the_positions_of_every_method(methods: list[str], added: list[str]) -> None:
    options = {"uniform-original": {"method": "uniform", "positions": "original"}}
    pruning = PruningConfig(methods=methods, seeds=[3, 4], options=options)
    bare = expand(replace(pruning, controls=False))
    conditions = expand(pruning)
    assert conditions[: len(bare)] == bare
    extra = conditions[len(bare) :]
    assert [condition.id for condition in extra] == [f"{name}#{seed}" for name in added for seed in (3, 4)]
    assert {condition.positions for condition in conditions} - {None} == {
        condition.positions for condition in conditions if condition.is_random_control
    } | {condition.positions for condition in bare if condition.method == "random"}


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_can_be_run(file: Path) -> None:
    """Table 4 in its own words: five indicators x four curves, each control beside the row it takes from."""
    conditions = expand(load_config(EvaluationConfig, [file]).pruning)
    assert conditions[0].id == "none"
    if file.stem == "table4":
        made = {(c.resolved["indicator"], c.resolved["curve"]) for c in conditions if c.method == "autoprune"}
        assert len(made) == 20
        assert sum(map(takes_measured, conditions)) == 8 == len(conditions) - (1 + 3 + 12)


def test_a_listed_random_with_other_options_is_no_control() -> None:
    pruning = PruningConfig(methods=["front", "fastervlm"])
    pruning.options = {"front": {"method": "random", "view_weights": [1, 0, 0, 0, 0, 0]}}
    assert [condition.id for condition in expand(pruning)][-1] == "random@0.25#0"


def test_the_name_of_an_added_control_is_taken() -> None:
    pruning = PruningConfig(methods=["fastv", "random-original"], options={"random-original": {"method": "uniform"}})
    with pytest.raises(ConfigError, match="'random-original' is the name of the control with original positions"):
        expand(pruning)
    assert len(expand(replace(pruning, controls=False))) == 3


@pytest.mark.parametrize(
    "override",
    ["pruning.methods=[majority]", "pruning.options.none.method=autoprune", "pruning.options.random.method=uniform"],
)
def test_controls_cannot_be_impersonated(override: str) -> None:
    config = load_config(EvaluationConfig, overrides=["pruning.methods=[none,random]", override])
    with pytest.raises(ConfigError, match="name of a control"):
        expand(config.pruning)


def test_kept_tokens_are_recorded_under_every_camera_order(tmp_path: Path) -> None:
    path = make_planning_set(tmp_path, scenes=4, per_scene=3)
    samples = planning_set(DataConfig([str(path)], str(tmp_path), ["corrected", "upstream"])).samples
    chunks = plan_of_work(samples, expand(EvaluationConfig().pruning), {}, kept_samples=3)
    orders = [task.sample.convention.cameras for (task,) in chunks if task.depths]
    assert sorted(orders) == ["corrected"] * 3 + ["upstream"] * 3


def test_a_batch_holds_questions_of_a_length(tmp_path: Path) -> None:
    path = make_planning_set(tmp_path, scenes=4, per_scene=3)
    samples = [
        replace(sample, question=sample.question + "?" * (number % 3))
        for number, sample in enumerate(planning_set(DataConfig([str(path)], str(tmp_path))).samples)
    ]
    conditions = expand(EvaluationConfig().pruning)
    singles = plan_of_work(samples, conditions, {}, kept_samples=0)
    assert [task.sample.key for (task,) in singles] == [sample.key for sample in samples]
    chunks = plan_of_work(samples, conditions, {}, kept_samples=0, batch_size=4)
    assert [{len(task.sample.question) - len(samples[0].question) for task in chunk} for chunk in chunks] == [
        {0},
        {1},
        {2},
    ]
    assert [task.sample.key for task in chunks[1]] == [sample.key for sample in samples[1::3]]
    assert [len(chunk) for chunk in plan_of_work(samples, conditions, {}, 0, batch_size=5)] == [5, 5, 2]


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_holds_a_sample_at_least(size: int) -> None:
    with pytest.raises(ConfigError, match=rf"batch_size: {size} is less than 1"):
        load_config(EvaluationConfig, overrides=[f"batch_size={size}"])


def test_shares_are_disjoint_and_complete() -> None:
    items = list(range(23))
    shares = [Processes(rank, 4).share(items) for rank in range(4)]
    assert sorted(item for share in shares for item in share) == items
    assert Processes.current() == Processes(0, 1)


def test_oracles_are_added_where_the_samples_tell_their_objects() -> None:
    pruning = PruningConfig(methods=["fastv", "oracle"], retentions=[0.2, 0.4], controls=False)
    told = [condition.id for condition in expand(pruning, objects=True)]
    assert told == ["none", "fastv@0.2", "fastv@0.4", "oracle@0.2", "oracle@0.4", "anti_oracle@0.2", "anti_oracle@0.4"]
    for without in (expand(pruning), expand(replace(pruning, oracles=False), objects=True)):
        assert [condition.id for condition in without] == told[:5]
    assert [one.id for one in expand(PruningConfig(methods=["blind"]), objects=True)] == ["none", "blind"]
