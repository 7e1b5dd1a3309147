"""Methods that live outside the package: the tutorial's file, installed or registered by hand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from senna_prune.config import EvaluationConfig
from senna_prune.errors import PruningError
from senna_prune.evaluation.run.run_key import run_key
from senna_prune.pruning import Budget, describe, make_pruner, method_names, register_method, registry
from senna_prune.pruning.base import Method
from senna_prune.pruning.methods.fastervlm import FasterVLM
from senna_prune.pruning.registry import outside_code
from tests.pruning.scenes import scene
from tests.pruning.test_registry import HOST, RECIPE, forget


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages, forgotten afterwards."""
    modules = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_registered", {})
    forget()
    yield tmp_path
    forget()
    for name in set(sys.modules) - modules:
        if name.startswith("stranger"):
            del sys.modules[name]


def install(site: Path, points: str, package: str = "stranger") -> None:
    folder = site / f"{package}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[senna_prune.methods]\n{points}\n")
    forget()


@pytest.mark.parametrize("value", ["stranger_norm", "stranger_norm:HiddenNorm"])
def test_an_installed_package_brings_a_method(site: Path, value: str) -> None:
    (site / "stranger_norm.py").write_text(RECIPE)
    install(site, f"outside_norm = {value}")
    assert "outside_norm" in method_names()
    assert "stranger_norm" not in sys.modules, "listing names loads nothing"
    assert describe("outside_norm").source == "Keeps the tokens with the largest hidden states."
    policy = make_pruner("outside_norm", Budget.retention(0.5), **HOST, layer=2)
    seen = scene([30, 30], layer=2)
    expected = seen.hidden.norm(dim=-1).topk(28).indices.sort().values
    assert torch.equal(policy.select(seen, 28, 0).keep, expected)


@pytest.mark.parametrize(
    ("point", "mention"),
    [
        ("outside_norm = stranger_absent", "entry point outside_norm = stranger_absent: cannot be loaded"),
        ("outside_norm = stranger_norm:Absent", "cannot be loaded"),
        ("outside_norm = stranger_norm:dataclass", "is no subclass of Method"),
        ("outside_norm = stranger_empty", "0 subclasses of Method"),
    ],
)
def test_a_broken_package_is_named_and_disturbs_no_other_method(site: Path, point: str, mention: str) -> None:
    (site / "stranger_norm.py").write_text(RECIPE)
    (site / "stranger_empty.py").write_text("")
    install(site, point)
    assert make_pruner("fastv", Budget.retention(0.5), **HOST).name == "fastv"
    with pytest.raises(PruningError, match=mention):
        make_pruner("outside_norm", Budget.retention(0.5), **HOST)


def test_an_installed_method_does_not_replace_another(site: Path) -> None:
    (site / "stranger_norm.py").write_text(RECIPE)
    install(site, "fastv = stranger_norm")
    with pytest.raises(PruningError, match="entry point fastv = stranger_norm: an installed package has a method"):
        method_names()


def test_a_class_is_registered_by_hand(site: Path) -> None:
    @register_method("mine")
    @dataclass(frozen=True, kw_only=True)
    class Mine(FasterVLM):
        """Like FasterVLM."""

    assert "mine" in method_names()
    assert make_pruner("mine", Budget.retention(0.5), **HOST).plan(768, 32).tokens[0] == 384
    assert register_method("mine")(Mine) is Mine, "a module may be loaded again"
    with pytest.raises(PruningError, match="there is a method 'mine' already"):
        register_method("mine")(FasterVLM)
    with pytest.raises(PruningError, match="there is a method 'fastv' already"):
        register_method("fastv")(Mine)
    with pytest.raises(PruningError, match="no subclass of Method"):
        register_method("other")(dict)  # type: ignore[type-var]
    with pytest.raises(PruningError, match="does not say where it cuts"):
        register_method("other")(Method)
    for name in ("a@b", "", None, "two words"):
        with pytest.raises(PruningError, match="cannot name a method"):
            register_method(name)  # type: ignore[arg-type]


def test_code_outside_the_package_has_a_digest_of_its_own(site: Path) -> None:
    file = site / "stranger_norm.py"
    file.write_text(RECIPE)
    install(site, "outside_norm = stranger_norm")
    first = outside_code("outside_norm")
    assert first is not None
    assert outside_code("fastv") is None
    del sys.modules["stranger_norm"]
    file.write_text(RECIPE + "\n# changed\n")
    forget()
    assert outside_code("outside_norm") not in (None, first)


def test_outside_code_is_part_of_the_run_key(site: Path) -> None:
    (site / "stranger_norm.py").write_text(RECIPE)
    install(site, "outside_norm = stranger_norm")
    config = EvaluationConfig()
    config.pruning.methods = ["fastv"]
    assert not [name for name in run_key(config, "digest") if name.startswith("method ")]
    config.pruning.methods = ["fastv", "late"]
    config.pruning.options = {"late": {"method": "outside_norm", "layer": 20}}
    assert run_key(config, "digest")["method outside_norm"] == outside_code("outside_norm")
