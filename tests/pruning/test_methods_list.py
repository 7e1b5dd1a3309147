"""`--methods`: every method with where it acts and its documented options; defaults are stated nowhere else."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.evaluation.report.methods import show_methods
from senna_prune.pruning import describe, method_names, method_options, registry
from tests.conftest import ROOT
from tools import eval_planning


def listed(width: int = 400) -> str:
    console = Console(file=io.StringIO(), width=width)
    show_methods(console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", method_names())
def test_every_option_has_a_default_and_a_meaning(name: str) -> None:
    method = describe(name)
    assert {option.name: option.default for option in method.options} == method_options(name)
    for option in method.options:
        assert option.text, f"{name}.{option.name} is not documented"
        assert option.values
    lines = listed().splitlines()
    (heading,) = (line for line in lines if line.startswith(f"{name}  acts: "))
    assert method.stage in heading
    assert method_options(name)["positions"] in heading
    for paragraph in (method.source, *method.text):
        assert f"  {paragraph}" in lines


def test_options_of_every_method_are_printed_once() -> None:
    text = listed()
    assert text.count("min_tokens_per_view") == 1
    assert "view_weights" in text.partition("Options of every method")[2]
    assert "[2, 1, 1, 1, 1, 1]" in text, "brackets in documentation are not markup"


def test_the_configuration_of_all_methods_lists_all() -> None:
    pruning = load_config(EvaluationConfig, [ROOT / "configs" / "methods.yaml"]).pruning
    labels = {label: {"method": label} | dict(pruning.options.get(label, {})) for label in pruning.methods}
    run = {(options["method"], options.get("positions")) for options in labels.values()}
    built_in = set(registry._entries()) - {"oracle", "anti_oracle"}  # for sets whose objects are annotated
    repacked = [name for name in built_in if method_options(name)["positions"] == "repacked" and name != "blind"]
    assert run == {(name, None) for name in built_in} | {(name, "original") for name in repacked}


@pytest.mark.parametrize("arguments", [["--methods"], ["limit=3", "--methods"], ["--methods", "--limit", "2"]])
def test_methods_alone_prints_and_runs_nothing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert eval_planning.main(arguments) == 0
    out = capsys.readouterr().out
    assert all(f"{name}  acts: " in out for name in method_names())
    assert "accuracy %" not in out
