"""Methods by name, their options, and the recipe for a new one."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import senna_prune.pruning
from senna_prune.errors import PruningError
from senna_prune.pruning import Budget, describe, make_pruner, method_names, method_options, methods, registry
from senna_prune.pruning.options import Option
from tests.docs.pages import DOCS, blocks
from tests.pruning.scenes import scene

HOST = {"num_layers": 32, "num_heads": 32, "num_visual": 768}
PACKAGE = Path(senna_prune.pruning.__file__).parent

RECIPE, _, RECIPE_TEST = (block.code for block in blocks(DOCS / "tutorials" / "new-method.md"))
"""The tutorial's example: the method's file, and its test."""


def forget() -> None:
    """Look for methods again."""
    for cached in (registry._load, registry._entries):
        cached.cache_clear()


@pytest.fixture
def new_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file dropped into `methods/`, without touching another."""
    (tmp_path / "hidden_norm.py").write_text(RECIPE)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    forget()
    yield
    forget()
    sys.modules.pop(f"{methods.__name__}.hidden_norm", None)


@pytest.mark.usefixtures("new_method")
def test_a_new_method_is_one_file() -> None:
    assert "hidden_norm" in method_names()
    assert method_options("hidden_norm")["order"] == 2.0
    found = describe("hidden_norm")
    assert found.source == "Keeps the tokens with the largest hidden states."
    assert found.text == ("Tokens with the largest norm, from one layer on.",)
    assert found.stage == "inside, once"
    assert found.options[0] == Option("order", 2.0, "a number", "of the norm.")
    policy = make_pruner("hidden_norm", Budget.retention(0.5), **HOST, layer=2, min_tokens_per_view=1)
    plan = policy.plan(60, 32)
    assert plan.tokens[1:3] == (60, 28)
    seen = scene([30, 30], layer=2)
    kept = policy.select(seen, 28, 0).keep
    strongest = seen.hidden.norm(dim=-1).topk(28).indices.sort().values
    assert torch.equal(kept, strongest)


@pytest.mark.usefixtures("new_method")
def test_the_tutorials_example_passes_its_own_test() -> None:
    names: dict[str, Any] = {"make_pruner": make_pruner, "Budget": Budget, "scene": scene}
    exec(compile(RECIPE_TEST, "new-method.md", "exec"), names)
    names["test_hidden_norm_keeps_the_strongest"]()


def module_of(text: str) -> ModuleType:
    module = ModuleType("senna_prune.pruning.methods.unfinished")
    exec(compile(text, "unfinished.py", "exec"), module.__dict__)
    return module


def test_a_method_file_must_define_one_method_that_says_where_it_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PruningError, match="0 subclasses of Method"):
        registry._complete(senna_prune.pruning.budget, "here")
    monkeypatch.setitem(sys.modules, "senna_prune.pruning.methods.unfinished", ModuleType("unfinished"))
    assert registry._complete(module_of(RECIPE), "here").stage == "inside, once"
    for text, message in (("stage = ", "does not say where it cuts"), ("def score", "does not define score")):
        with pytest.raises(PruningError, match=message):
            registry._complete(module_of(RECIPE.replace(text, f"{text[:-4]}other{text[-4:]}")), "here")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pyramid_drop", {}, "did you mean 'pyramiddrop'"),
        ("fastv", {"layers": 3}, "did you mean 'layer'"),
        ("fastv", {"layer": "2"}, "'2' is not a whole number or null"),
        ("fastv", {"layer": True}, "True is not a whole number"),
        ("autoprune", {"variant": "printed"}, "one of released, paper"),
        ("autoprune", {"k0": None}, "None is not a number"),
        ("random", {"view_weights": [1, "x"]}, "view_weights"),
        ("random", {"view_weights": [1, -1]}, "option view_weights"),
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
        ("pyramiddrop", {"ratios": (0.5, 0.25)}, "one ratio per stage"),
        ("sparsevlm", {"layers": (2, 6)}, "three layers"),
        ("sparsevlm", {"counts": (9, 0, 0)}, "option counts"),
        ("sparsevlm_v2", {"heads": 0}, "option heads"),
    ],
)
def test_mistakes_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PruningError) as caught:
        make_pruner(name, Budget.retention(0.5), **HOST, **options)
    assert message.lower() in str(caught.value).lower()


@pytest.mark.parametrize("name", [name for name in method_names() if describe(name).stage == "inside, once"])
def test_a_cut_inside_needs_a_layer_to_cut_before(name: str) -> None:
    with pytest.raises(PruningError, match=f"method {name}: a decoder of one layer"):
        make_pruner(name, Budget.retention(0.5), num_layers=1, num_heads=4, num_visual=768)


def test_pyramiddrop_takes_any_number_of_stages() -> None:
    plan = make_pruner("pyramiddrop", Budget.retention(0.5), **HOST, stages=(2, 6)).plan(768, 32)
    assert plan.tokens[1] > plan.tokens[2] > plan.tokens[6] == plan.tokens[31]
    assert plan.entering == pytest.approx(384, rel=0.005)


def test_a_budget_above_all_tokens_is_a_mistake() -> None:
    with pytest.raises(PruningError, match="900 tokens per layer"):
        make_pruner("random", Budget.tokens(900), **HOST)


def test_weights_for_other_views_are_refused() -> None:
    policy = make_pruner("random", Budget.retention(0.5), **HOST, view_weights=[1, 2])
    with pytest.raises(PruningError, match="2 weights for 3 views"):
        policy.select(scene([5, 5, 5]), 6, 0)


def test_lists_from_yaml_are_taken() -> None:
    policy = make_pruner("random", Budget.retention(0.5), **HOST, view_weights=[1, 2.5])
    assert policy.view_weights == (1, 2.5)


@pytest.mark.parametrize("name", method_names())
def test_defaults_make_a_pruner(name: str) -> None:
    policy = make_pruner(name, Budget.retention(0.5), **HOST, **method_options(name))
    assert policy.name == name
    assert policy.positions in ("original", "repacked")
    for positions in ("original", "repacked"):
        assert make_pruner(name, Budget.retention(0.5), **HOST, positions=positions).positions == positions
    assert describe(name).source


def test_policies_import_neither_model_nor_engine() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                top = name.split(".")[0]
                assert top in sys.stdlib_module_names | {"torch", "senna_prune"}, f"{path.name} imports {name}"
                assert top != "senna_prune" or name.startswith(
                    ("senna_prune.pruning", "senna_prune.errors", "senna_prune.cost")
                ), name


def test_method_files_are_short() -> None:
    lengths = {path.stem: len(path.read_text().splitlines()) for path in (PACKAGE / "methods").glob("*.py")}
    del lengths["__init__"]
    assert sum(lengths.values()) / len(lengths) < 120
    assert lengths.pop("autoprune") < 300
    assert max(lengths.values()) < 150
    assert len(RECIPE.splitlines()) < 50


def test_shared_parts_are_used_by_two_methods() -> None:
    """What only one method uses belongs in its file."""
    files = {path.stem: path.read_text() for path in (PACKAGE / "methods").glob("*.py")}
    for room in ("ordering", "clusters"):
        tree = ast.parse((PACKAGE / f"{room}.py").read_text())
        public = [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        inside = (PACKAGE / f"{room}.py").read_text()
        for name in public:
            users = [file for file, text in files.items() if re.search(rf"\b{name}\b", text)]
            used_here = len(re.findall(rf"\b{name}\b", inside)) > 1
            assert len(users) >= 2 or used_here, f"{room}.{name} is used by {users}"
