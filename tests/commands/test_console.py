"""The console command: it finds its subcommands, refuses others in one line, and works outside a checkout."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from senna_prune import __version__
from senna_prune.cli import WAITING
from senna_prune.commands.__main__ import COMMANDS, main
from senna_prune.commands.bundled import PACKAGE, bundled
from tests.conftest import ROOT


def test_usage_lists_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    for name, (module, summary) in COMMANDS.items():
        assert f"  {name} " in shown and summary in shown
        assert callable(importlib.import_module(f"senna_prune.commands.{module}").main)


def test_version_and_an_unknown_subcommand_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert (main(["--version"]), capsys.readouterr().out) == (0, f"senna-prune {__version__}\n")
    assert main(["evall"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: senna-prune: unknown command 'evall'. Did you mean 'eval'?")
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_the_subcommand(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["senna-prune"])
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: senna-prune {name} ")


@pytest.mark.parametrize("tool", sorted({path.stem for path in (ROOT / "tools").glob("[a-z]*.py")} - {"make_demo"}))
def test_every_tool_shares_its_code_with_a_subcommand(tool: str) -> None:
    shared = importlib.import_module(f"tools.{tool}").main.__module__
    assert shared.startswith("senna_prune.commands.")
    assert shared.rpartition(".")[2] in {module for module, _ in COMMANDS.values()}


def test_bundled_files_stand_in_for_missing_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundled("configs/demo.yaml") == PACKAGE / "configs" / "demo.yaml"
    assert bundled("data/demo/model").is_dir()
    assert bundled("data/absent") == Path("data/absent")
    assert bundled("model") == Path("model"), "a user's own folder was taken for a part of the package"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yaml").touch()
    assert bundled("configs/demo.yaml") == Path("configs/demo.yaml")


def test_the_demo_runs_in_an_empty_folder_and_ends_with_its_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["senna-prune"])
    assert main(["demo", "limit=1", "scoring.resamples=10", "output=run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("demo: one model plans 1 frame "))
    assert len(lines) - start <= 20 and "evaluator overhead" in lines[start - 1]
    assert lines[-3:] == ["Kept tokens: run/kept_tokens.png", "Files: run", "Report: run/report.html"]
    assert all((tmp_path / "run" / name).is_file() for name in ("decisions.jsonl", "report.html", "kept_tokens.png"))


@pytest.mark.slow
def test_the_wheel_holds_configurations_and_demo_but_no_tools(tmp_path: Path) -> None:
    """Built without isolation and without an index from a copy of the tracked files."""
    pytest.importorskip("setuptools", minversion="68")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout to list the files of")
    source = tmp_path / "source"
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith("tests/") and ((ROOT / name).is_file() or (ROOT / name).is_symlink()):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", tmp_path]
    done = subprocess.run([*command, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {"senna_prune", f"senna_prune-{__version__}.dist-info"}
    bundled = ("configs/demo.yaml", "configs/benchmark/cpu_decoder.yaml")
    bundled += ("data/demo/model/model.safetensors", "data/demo/planning_set.jsonl")
    assert {f"senna_prune/{name}" for name in bundled} <= names
    assert sum(name.endswith(".jpg") for name in names) >= 6
    assert not any("v1.0-demo" in name for name in names), "conversion alone needs the tables"
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "senna_prune").rglob("*.py")}
    assert modules <= names


@pytest.mark.parametrize("own", [{}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}, {"KMP_BLOCKTIME": "9"}])
def test_threads_sleep_unless_the_user_or_an_importing_program_says_otherwise(own: dict[str, str]) -> None:
    """A command says how threads wait before torch is imported; a program that imports the library decides itself."""
    names = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", *WAITING)
    code = f"import os, sys, senna_prune.cli as c; c.guarded(lambda: print([os.environ.get(n) for n in {names}]))"
    bare = {name: value for name, value in os.environ.items() if name not in names}
    given = bare | {"OMP_NUM_THREADS": "1"} | own
    for first, expected in (("", own or WAITING), ("import senna_prune, torch; ", own)):
        command = [sys.executable, "-c", first + code]
        done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
        assert done.stdout == f"{[(expected | {'OMP_NUM_THREADS': '1'}).get(name) for name in names]}\n", done.stderr


def test_every_command_says_so_before_torch_is_imported() -> None:
    code = (
        "import importlib.abc, os, sys\n"
        "class Watch(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torch': print(os.environ.get('GOMP_SPINCOUNT')); os._exit(0)\n"
        "sys.meta_path.insert(0, Watch())\n"
        "from senna_prune.commands.__main__ import main\n"
        "main(sys.argv[1:])"
    )
    bare = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", *WAITING)}
    for command in ("demo", "benchmark", "calibrate --out /dev/null", "import x y"):
        given = [sys.executable, "-c", code, *command.split()]
        done = subprocess.run(given, cwd=ROOT, env=bare, capture_output=True, text=True, check=False)
        assert done.stdout == f"{WAITING['GOMP_SPINCOUNT']}\n", command + done.stderr
