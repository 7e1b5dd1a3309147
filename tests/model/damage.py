"""Whole checkpoints of a tiny Senna, and ways to damage a file of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from senna_prune.model.importing import import_checkpoint
from tests.fakes import tiny_senna
from tests.model.reference import write_reference

Change = Callable[[Path], Any]
RELEASED, OURS = "released", "ours"
CONFIG, TOKENS, WEIGHTS, INDEX = (
    "config.json",
    "tokenizer_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A whole checkpoint in each format."""
    folder = tmp_path_factory.mktemp("pristine")
    released = write_reference(folder / RELEASED, *tiny_senna())
    import_checkpoint(released, folder / OURS)
    return {RELEASED: released, OURS: folder / OURS}


def replaced(file: str, by: Any) -> Change:
    """Put something else in the place of a file.

    Args:
        by: text or bytes; "pipe" or "dangling"; a share of its bytes; None, which removes it; fields that change (those
            that become ... go); or a function from its tensors to others.
    """

    def change(folder: Path) -> None:
        path = folder / file
        old = path.read_bytes() if path.is_file() else b""
        if callable(by):
            save_file(by(load_file(path)), path)
            return
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if by == "pipe":
            os.mkfifo(path)
        elif by == "dangling":
            path.symlink_to("nowhere")
        elif isinstance(by, dict):
            path.write_text(json.dumps(merged(json.loads(old), by)))
        elif isinstance(by, float):
            path.write_bytes(old[: int(by * len(old))])
        elif by is not None:
            path.write_bytes(by.encode() if isinstance(by, str) else by)

    return change


def merged(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Fields after changes, which may lie one level deeper."""
    for key, value in changes.items():
        deeper = isinstance(value, dict) and isinstance(fields.get(key), dict)
        fields[key] = fields[key] | value if deeper else value
    return {key: value for key, value in fields.items() if value is not ...}
