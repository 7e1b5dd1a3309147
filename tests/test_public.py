"""The public face and the arrows between packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import senna_prune

ROOT = Path(senna_prune.__file__).parent
FORBIDDEN = {
    "pruning": ("model", "engine", "planning", "nuscenes", "evaluation", "training", "benchmark"),
    "model": ("pruning", "engine", "planning.planner", "nuscenes", "evaluation", "training", "benchmark"),
    "engine": ("planning", "nuscenes", "evaluation", "training", "benchmark"),
    "planning": ("nuscenes", "evaluation", "training", "benchmark"),
    "evaluation": ("nuscenes", "training", "benchmark"),
    "nuscenes": ("model", "pruning", "engine", "evaluation", "training", "benchmark"),
}


def test_every_public_name_resolves() -> None:
    for name in senna_prune.__all__:
        assert getattr(senna_prune, name) is not None
    assert set(senna_prune.__all__) == set(senna_prune._HOMES)
    with pytest.raises(AttributeError):
        senna_prune.nothing_of_the_kind  # noqa: B018


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, senna_prune.planning.sample; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_arrows_between_packages_point_one_way(package: str) -> None:
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for other in FORBIDDEN[package]:
                wrong = [name for name in names if (name + ".").startswith(f"senna_prune.{other}.")]
                assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"
