"""`configs/methods/*.yaml` repeat the published defaults, and the evaluation reads them."""

from __future__ import annotations

import pytest

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.pruning import Budget, make_pruner, method_options
from tests.conftest import ROOT

FOLDER = ROOT / "configs" / "methods"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_method_files_state_the_defaults(name: str) -> None:
    config = load_config(EvaluationConfig, [FOLDER / f"{name}.yaml"])
    assert config.pruning.methods == [name]
    options = config.pruning.options[name]
    # A fixed seed would switch off the runs per seed.
    assert {"seed": 0, **options} == {"seed": 0, **method_options(name)}
    make_pruner(name, Budget.retention(0.25), num_layers=32, num_heads=32, num_visual=768, **options)
