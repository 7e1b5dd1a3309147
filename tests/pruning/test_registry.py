"""Methods by name, their options, the recipe for a new one, and methods that live outside the package."""

from __future__ import annotations

import ast
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import senna_prune.pruning
from senna_prune.config import EvaluationConfig, load_config
from senna_prune.errors import PruningError
from senna_prune.evaluation.report.methods import show_methods
from senna_prune.evaluation.run.records import Condition
from senna_prune.evaluation.run.run_key import condition_digest
from senna_prune.pruning import (
    Budget,
    Method,
    describe,
    make_pruner,
    method_names,
    method_options,
    register_method,
    registry,
)
from senna_prune.pruning import methods as folder
from senna_prune.pruning.methods.fastervlm import FasterVLM
from senna_prune.pruning.options import Option
from senna_prune.pruning.registry import method_code
from tests.conftest import ROOT
from tests.docs.pages import DOCS, blocks
from tests.pruning.scenes import scene
from tools import eval_planning

HOST: dict[str, Any] = {"num_layers": 32, "num_heads": 32, "num_visual": 768}
HALF = Budget.retention(0.5)
PACKAGE = Path(senna_prune.pruning.__file__).parent

RECIPE, _, RECIPE_TEST = (block.code for block in blocks(DOCS / "tutorials" / "new-method.md"))
"""The tutorial's example: the method's file, and its test."""


def forget() -> None:
    """Look for methods again."""
    for cached in (registry._load, registry._entries):
        cached.cache_clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages, which may be dropped into `methods/`; forgotten afterwards."""
    modules = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_registered", {})
    (tmp_path / "stranger_norm.py").write_text(RECIPE)
    forget()
    yield tmp_path
    forget()
    for name in set(sys.modules) - modules:
        if "stranger" in name:
            del sys.modules[name]


def install(site: Path, points: str) -> None:
    (site / "stranger-1.0.dist-info").mkdir()
    (site / "stranger-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (site / "stranger-1.0.dist-info" / "entry_points.txt").write_text(f"[senna_prune.methods]\n{points}\n")
    forget()


@pytest.mark.parametrize("value", [None, "stranger_norm", "stranger_norm:HiddenNorm"])
def test_a_new_method_is_one_file(site: Path, value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In `methods/`, or listed by an installed package."""
    if value is None:
        monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(site)])
        forget()
    else:
        install(site, f"stranger_norm = {value}")
    assert "stranger_norm" in method_names()
    assert not [name for name in sys.modules if "stranger" in name], "listing names loads nothing"
    assert method_options("stranger_norm")["order"] == 2.0
    found = describe("stranger_norm")
    assert found.source == "Keeps the tokens with the largest hidden states."
    assert found.text == ("Tokens with the largest norm, from one layer on.",)
    assert found.stage == "inside, once"
    assert found.options[0] == Option("order", 2.0, "a number", "of the norm.")
    policy = make_pruner("stranger_norm", HALF, **HOST, layer=2, min_tokens_per_view=1)
    assert policy.plan(60, 32).tokens[1:3] == (60, 28)
    seen = scene([30, 30], layer=2)
    assert policy.select(seen, 28, 0).keep.tolist() == sorted(seen.hidden.norm(dim=-1).topk(28).indices.tolist())
    names: dict[str, Any] = {"make_pruner": make_pruner, "Budget": Budget, "scene": scene}
    exec(compile(RECIPE_TEST.replace('"hidden_norm"', '"stranger_norm"'), "new-method.md", "exec"), names)
    names["test_hidden_norm_keeps_the_strongest"]()


@pytest.mark.parametrize(
    ("value", "change", "mention"),
    [
        ("stranger_absent", ("", ""), "entry point outside_norm = stranger_absent: cannot be loaded"),
        ("stranger_norm:Absent", ("", ""), "cannot be loaded"),
        ("stranger_norm:dataclass", ("", ""), "is no subclass of Method"),
        ("stranger_norm", ("(Method)", ""), "0 subclasses of Method"),
        ("stranger_norm", ("    stage =", "    stages ="), "does not say where it cuts"),
        ("stranger_norm", ('"inside, once"', '"inside"'), "does not say where it cuts"),
        ("stranger_norm", ('"inside, once"', '"before the decoder, once"'), "stage and published_layer do not fit"),
        ("stranger_norm", ("    published_layer", "    published"), "stage and published_layer do not fit"),
        ("stranger_norm", ("def score", "def scores"), "does not define score"),
        ("stranger_norm", ("@dataclass(frozen=True, kw_only=True)\n", ""), "order would not be an option"),
        ("stranger_norm", ("    stage", "    scope = 'per_view'\n    stage"), "scope would not be an option"),
    ],
)
def test_a_broken_file_is_named_and_disturbs_no_other(
    site: Path, value: str, change: tuple[str, str], mention: str
) -> None:
    (site / "stranger_norm.py").write_text(RECIPE.replace(*change))
    install(site, f"outside_norm = {value}")
    assert make_pruner("fastv", HALF, **HOST).name == "fastv"
    with pytest.raises(PruningError, match=mention):
        make_pruner("outside_norm", HALF, **HOST)


def test_an_installed_method_does_not_replace_another(site: Path) -> None:
    install(site, "fastv = stranger_norm")
    with pytest.raises(PruningError, match="entry point fastv = stranger_norm: an installed package has a method"):
        method_names()


def test_a_class_is_registered_by_hand(site: Path) -> None:
    @register_method("mine")
    @dataclass(frozen=True, kw_only=True)
    class Mine(FasterVLM):
        """Like FasterVLM."""

    assert "mine" in method_names()
    assert make_pruner("mine", HALF, **HOST).plan(768, 32).tokens[0] == 384
    assert register_method("mine")(Mine) is Mine, "a module may be loaded again"
    refusals: list[tuple[Any, Any, str]] = [
        ("mine", FasterVLM, "there is a method 'mine' already"),
        ("fastv", Mine, "there is a method 'fastv' already"),
        ("other", dict, "no subclass of Method"),
        ("other", Method, "does not say where it cuts"),
        *((name, Mine, "cannot name a method") for name in ("a@b", "", None, "two words")),
    ]
    for name, kind, mention in refusals:
        with pytest.raises(PruningError, match=mention):
            register_method(name)(kind)


def test_code_outside_the_package_is_part_of_the_run_key(site: Path) -> None:
    install(site, "outside_norm = stranger_norm")
    first = method_code("outside_norm")
    late = Condition("late", "outside_norm", 0.5)
    before = condition_digest(late), condition_digest(Condition("fastv", "fastv", 0.5))
    del sys.modules["stranger_norm"]
    (site / "stranger_norm.py").write_text(RECIPE + "\n# changed\n")
    forget()
    assert method_code("outside_norm") != first
    assert condition_digest(late) != before[0]
    assert condition_digest(Condition("fastv", "fastv", 0.5)) == before[1]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pyramid_drop", {}, "did you mean 'pyramiddrop'"),
        ("fastv", {"layers": 3}, "did you mean 'layer'"),
        ("fastv", {"layer": "2"}, "'2' is not a whole number or null"),
        ("autoprune", {"variant": "printed"}, "one of released, paper"),
        ("autoprune", {"k0": None}, "None is not a number"),
        ("autoprune", {"quantiles": (1, 0)}, "option quantiles"),
        ("random", {"view_weights": [1, "x"]}, "view_weights"),
        ("random", {"view_weights": [1, -1]}, "option view_weights"),
        ("random", {"seed": -1}, "option seed: -1 is out of range"),
        ("uniform", {"min_tokens_per_view": -1}, "option min_tokens_per_view"),
        ("fastv", {"layer": 0}, "a layer from 1 on"),
        ("fastv", {"layer": 32}, "a layer below 32"),
        ("fastv", {"count": 0}, "option count"),
        ("dart", {"image_pivots": 0}, "option image_pivots"),
        ("dart", {"text_pivots": -1}, "option text_pivots"),
        ("prune2drive", {"layer": 40}, "a layer below 32"),
        ("cdpruner", {"relevance": "clip"}, "one of question, uniform"),
        ("visionzip", {"contextual": 1.0}, "option contextual"),
        ("pyramiddrop", {"stages": (4, 2, 8)}, "option stages"),
        ("pyramiddrop", {"stages": []}, "option stages: () is out of range"),
        ("pyramiddrop", {"stages": [1, "x", 3]}, "(1, 'x', 3) is not a list, each a whole number"),
        ("pyramiddrop", {"ratios": (0.5, 0.25)}, "one ratio per stage"),
        ("pyramiddrop", {"ratios": []}, "one ratio per stage"),
        ("pyramiddrop", {"ratios": [0.2, 0.5, 0.1]}, "falling ratios"),
        ("sparsevlm", {"layers": (2, 6)}, "three layers"),
        ("sparsevlm", {"layers": []}, "three layers"),
        ("sparsevlm", {"counts": (9, 0, 0)}, "option counts"),
        ("sparsevlm", {"counts": []}, "three counts"),
        ("sparsevlm", {"counts": [1.5, 2, 3]}, "(1.5, 2, 3) is not a list"),
        ("sparsevlm_v2", {"heads": 0}, "option heads"),
        ("sparsevlm_v2", {"heads": "half"}, "'half' is not a whole number"),
    ],
)
def test_mistakes_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PruningError) as caught:
        make_pruner(name, HALF, **HOST, **options)
    assert message.lower() in str(caught.value).lower()


@pytest.mark.parametrize("name", [name for name in method_names() if describe(name).stage == "inside, once"])
def test_a_cut_inside_needs_a_layer_to_cut_before(name: str) -> None:
    with pytest.raises(PruningError, match=f"method {name}: a decoder of one layer"):
        make_pruner(name, HALF, num_layers=1, num_heads=4, num_visual=768)


def test_pyramiddrop_takes_any_number_of_stages() -> None:
    plan = make_pruner("pyramiddrop", HALF, **HOST, stages=(2, 6)).plan(768, 32)
    assert plan.tokens[1] > plan.tokens[2] > plan.tokens[6] == plan.tokens[31]
    assert plan.entering == pytest.approx(384, rel=0.005)
    assert min(make_pruner("pyramiddrop", HALF, **HOST, ratios=(1e-6, 1e-6, 1e-6)).plan(768, 32).tokens) == 1


def test_a_budget_above_all_tokens_is_a_mistake() -> None:
    with pytest.raises(PruningError, match="900 tokens per layer"):
        make_pruner("random", Budget.tokens(900), **HOST)


def test_lists_of_weights_are_taken_but_not_for_other_views() -> None:
    policy = make_pruner("random", HALF, **HOST, view_weights=[1, 2.5])
    assert policy.view_weights == (1, 2.5)
    with pytest.raises(PruningError, match="2 weights for 3 views"):
        policy.select(scene([5, 5, 5]), 6, 0)


@pytest.mark.parametrize("name", method_names())
def test_defaults_make_a_pruner(name: str) -> None:
    policy = make_pruner(name, HALF, **HOST, **method_options(name))
    assert policy.name == name
    assert policy.positions in ("original", "repacked")
    for positions in ("original", "repacked"):
        assert make_pruner(name, HALF, **HOST, positions=positions).positions == positions
    assert describe(name).source


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


def test_policies_import_neither_model_nor_engine() -> None:
    own = tuple(f"senna_prune.{room}" for room in ("pruning", "errors", "cost", "devices"))
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                outside = sys.stdlib_module_names | {"torch"}
                assert name.split(".")[0] in outside or name.startswith(own), f"{path.name} imports {name}"


def test_files_are_short_and_shared_parts_are_shared() -> None:
    files = {path.stem: path.read_text() for path in (PACKAGE / "methods").glob("*.py")}
    lengths = {name: len(text.splitlines()) for name, text in files.items() if name != "__init__"}
    assert all(lengths[name] <= 40 for name in ("fastv", "fastervlm", "divprune", "prune2drive", "uniform", "random"))
    assert lengths.pop("autoprune") < 300
    assert max(lengths.values()) < 130
    assert len(RECIPE.splitlines()) < 30
    assert len((PACKAGE / "base.py").read_text().splitlines()) <= 300
    for room in ("ordering", "clusters"):  # what only one method uses belongs in its file
        inside = (PACKAGE / f"{room}.py").read_text()
        public = [n.name for n in ast.parse(inside).body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
        for name in public:
            users = [file for file, text in files.items() if re.search(rf"\b{name}\b", text)]
            assert len(users) >= 2 or len(re.findall(rf"\b{name}\b", inside)) > 1, f"{room}.{name}: {users}"
