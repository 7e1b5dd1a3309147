"""The public face and the arrows between packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import senna_prune

ROOT = Path(senna_prune.__file__).parent
BASE = {"errors", "files", "cli", "devices", "image_files", "cost"}
"""Files at the top of the package that know nothing of the rooms."""
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "cli": {"errors"},
    "devices": {"errors"},
    "image_files": {"errors", "files"},
    "cost": set(),
    "task": BASE,
    "config": {*BASE, "task"},
    "pruning": {*BASE, "task"},
    "model": {*BASE, "task"},
    "hosts": {*BASE, "task", "model", "pruning"},
    "engine": {*BASE, "task", "model", "pruning", "hosts"},
    "planner": {*BASE, "task", "model", "pruning", "hosts", "engine"},
    "nuscenes": {*BASE, "task"},
    "evaluation.run": {*BASE, "config", "task", "model", "pruning", "hosts", "engine", "planner", "evaluation.audit"},
    "evaluation.audit": {*BASE, "task", "model", "pruning", "hosts", "engine"},
    "evaluation.score": {*BASE, "config", "task", "pruning", "evaluation.run"},
    "evaluation.report": {*BASE, "config", "task", "pruning"}
    | {"evaluation.audit", "evaluation.run", "evaluation.score"},
    "evaluation": {*BASE, "config", "task", "evaluation.run", "evaluation.score", "evaluation.report"},
    "benchmark": {*BASE, "config", "task", "model", "pruning", "hosts", "engine", "planner"},
    "serving": {*BASE, "task", "model", "pruning", "hosts", "engine", "planner"},
    "harness": {*BASE, "pruning", "hosts", "engine", "planner"},
    "commands": BASE
    | {"hosts", "config", "task", "model", "nuscenes", "evaluation", "evaluation.run"}
    | {"evaluation.audit", "evaluation.report", "benchmark", "serving"},
}
"""Every room and what it may import, itself aside. The graph has no cycle: a room stands below what imports it."""


def room_of(module: str) -> str:
    """The room of `senna_prune.<module>`: a sub-room of evaluation, a folder, or a file at the top."""
    parts = module.split(".")
    return ".".join(parts[:2]) if ".".join(parts[:2]) in MAY_IMPORT else parts[0]


def test_every_public_name_resolves() -> None:
    for name in senna_prune.__all__:
        assert getattr(senna_prune, name) is not None
    assert set(senna_prune.__all__) == set(senna_prune._HOMES)
    with pytest.raises(AttributeError):
        senna_prune.nothing_of_the_kind  # noqa: B018


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, senna_prune.task.sample; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def imports_of(file: Path) -> set[str]:
    """Modules of this package that a file imports, below `senna_prune.`; `tools` stands above the package."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.removeprefix("senna_prune.") for name in names if name.startswith(("senna_prune.", "tools."))}


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_arrows_between_rooms_point_one_way(room: str) -> None:
    for file in ROOT.rglob("*.py"):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module == "__init__" or room_of(module) != room:
            continue
        wrong = {name for name in imports_of(file) if room_of(name) not in {room, "__version__"} | MAY_IMPORT[room]}
        assert not wrong, f"{file.relative_to(ROOT)} imports {sorted(wrong)}"


def test_every_room_is_listed_and_none_stands_below_itself() -> None:
    found = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found - {"__init__"} == {room.partition(".")[0] for room in MAY_IMPORT}
    for room, below in MAY_IMPORT.items():
        assert all(room not in MAY_IMPORT[other] for other in below), room
