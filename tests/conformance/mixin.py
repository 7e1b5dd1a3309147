"""transformers' own model tests, out of the source archive of the installed version."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import transformers

from senna_prune.files import write_whole

PACKAGE = "transformers_tests"
VERSION = transformers.__version__
CACHE = Path(__file__).resolve().parents[2] / ".pytest_cache" / "d" / PACKAGE
STAND_INS = {
    f"{PACKAGE}.exporters.test_export": "ExportTesterMixin",
    f"{PACKAGE}.generation.test_utils": "GenerationTesterMixin",
}
"""Modules that `test_modeling_common.py` imports and the archive does not hold, with the class imported from each."""
SECONDS = 180


class SourceUnavailableError(Exception):
    """The tests cannot be had here: no index, no such version, no answer in time, or no tests in the archive."""


def source_file() -> Path:
    """`test_modeling_common.py` of the installed transformers: pip fetches it once, pytest's cache keeps it.

    Raises:
        SourceUnavailableError: it is not in the cache and pip does not bring it.
    """
    file = CACHE / VERSION / "test_modeling_common.py"
    if file.exists():
        return file
    requirement = f"transformers=={VERSION}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "0", "--timeout", "15"]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--no-binary", "transformers", "--dest", folder, requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise SourceUnavailableError(f"pip did not bring {requirement} within {SECONDS} s") from None
        archives = sorted(Path(folder).glob("*.tar.gz"))
        if done.returncode or not archives:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise SourceUnavailableError(f"pip cannot download the source of {requirement}: {last}")
        with tarfile.open(archives[0]) as archive:
            try:
                member = archive.extractfile(f"transformers-{VERSION}/tests/{file.name}")
            except KeyError:
                raise SourceUnavailableError(f"the source of {requirement} holds no tests/{file.name}") from None
            assert member is not None
            write_whole(file, member.read())
    return file


def model_tester_mixin() -> Any:
    """The class `ModelTesterMixin`.

    Raises:
        SourceUnavailableError: as `source_file` does.
    """
    file = source_file()
    for name, class_name in STAND_INS.items():
        sys.modules[name] = ModuleType(name)
        setattr(sys.modules[name], class_name, type(class_name, (), {}))
    for name in (PACKAGE, f"{PACKAGE}.exporters", f"{PACKAGE}.generation"):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = []
    name = f"{PACKAGE}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module.ModelTesterMixin
