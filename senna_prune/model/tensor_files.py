"""Weight files of a checkpoint folder: found, opened without unpickling, compared with the model tensor by tensor."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from senna_prune.errors import CheckpointError, as_error, foreign_errors, listed, one_line
from senna_prune.files import accessing, open_regular, read_json

_LAYOUTS = (
    ("model.safetensors.index.json", "model.safetensors", "model-*.safetensors"),
    ("pytorch_model.bin.index.json", "pytorch_model.bin", "pytorch_model-*.bin"),
)
_WRAPPERS = re.compile(
    r"(?:^|\.)(module|_orig_mod|_fsdp_wrapped_module|_forward_module|base_model\.model|base_layer|modules_to_save|"
    r"lora_\w+|absmax|quant_state)(?:\.|$)"
)
"""What wrappers, adapters and quantisation put into the names of tensors."""
_WEIGHT_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

Stored = tuple[tuple[int, ...], torch.dtype]
"""Shape and type of a stored tensor."""


def as_checkpoint_error(where: object) -> AbstractContextManager[None]:
    """`as_error` over a file of a checkpoint."""
    return as_error(CheckpointError, "cannot be used", where)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; raises CheckpointError as `files.read_json` does."""
    record: dict[str, Any] = read_json(path, hint="point to a complete checkpoint folder", error=CheckpointError)
    return record


def weight_files(folder: Path) -> list[Path]:
    """Weight files of a checkpoint folder, safetensors before `.bin`: the indexed shards, the single file, or shards
    without an index.

    Raises:
        CheckpointError: there are none, or the index is broken or names absent shards.
    """
    for index, single, shards in _LAYOUTS:
        if (folder / index).is_file():
            return _indexed(folder / index)
        if (folder / single).is_file():
            return [folder / single]
        if found := sorted(folder.glob(shards)):
            return found
    hint = "expected model*.safetensors or pytorch_model*.bin with their index"
    raise CheckpointError("no weight files", where=folder, hint=hint)


def _indexed(index: Path) -> list[Path]:
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError("the index has no weight_map of tensor names to files", where=index)
    names = sorted(set(weight_map.values()))
    if outside := [name for name in names if Path(name).name != name]:
        raise CheckpointError(f"the index points outside its folder ({outside[0]})", where=index)
    with accessing(index, "read", error=CheckpointError):
        absent = [name for name in names if not (index.parent / name).is_file()]
    if absent:
        problem = f"{len(absent)} of {len(names)} shards are absent ({listed(absent)})"
        raise CheckpointError(problem, where=index, hint="download them")
    return [index.parent / name for name in names]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one file, mapped from disk: bytes are read when a tensor is first used.

    `.bin` files are read with `weights_only=True` alone.

    Raises:
        CheckpointError: a truncated or damaged file; a `.bin` that needs unpickling or holds other things than tensors;
            names that a wrapper or an adapter gave.
    """
    with open_regular(path, error=CheckpointError) as stream:
        head = stream.read(16)
    if head.startswith(b"version https:"):
        problem, hint = "a Git LFS pointer, not the weights", "fetch the file with 'git lfs pull'"
        raise CheckpointError(problem, where=path, hint=hint)
    try:
        content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_bin(path, head.startswith(b"PK"))
    except foreign_errors() as error:
        if culprit := re.search(r"GLOBAL (\S+)|Unsupported (operand|class|global) \S+", str(error)):
            problem = f"the file holds pickled objects other than tensors ({culprit[0]}) and was not opened, as that "
            hint = "convert it to safetensors where you trust its origin"
            raise CheckpointError(f"{problem}could run code", where=path, hint=hint) from error
        hint = "download or copy the file again"
        raise CheckpointError(f"truncated or damaged ({one_line(error)})", where=path, hint=hint) from error
    _check_names(content, path)
    return content


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping


def _read_bin(path: Path, is_zip: bool) -> Any:
    if is_zip and not zipfile.is_zipfile(path):
        raise EOFError("its end is missing")
    return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def _check_names(content: Any, path: Path) -> None:
    """Refuse what is no mapping of plain names to dense tensors."""
    hint = "save the model's state dict alone"
    if not isinstance(content, dict):
        raise CheckpointError(f"holds a {type(content).__name__}, not a mapping of tensors", where=path)
    for name, value in content.items():
        if not isinstance(name, str):
            raise CheckpointError(f"the name {name!r} is no text", where=path, hint=hint)
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
            problem = f"entry {name!r} is a {type(value).__name__}, not a dense tensor"
            raise CheckpointError(problem, where=path, hint=hint)
    if wrapped := [name for name in content if _WRAPPERS.search(name)]:
        part = _WRAPPERS.search(wrapped[0])
        assert part is not None
        raise CheckpointError(
            f"{len(wrapped)} tensors bear {part[1]!r} of a wrapper, an adapter or quantisation in their names "
            f"({listed(wrapped)})",
            where=path,
            hint="save the plain model: unwrapped (model.module), adapters merged (merge_and_unload), not quantised",
        )


def check_tensors(found: Mapping[str, Stored], expected: Mapping[str, tuple[int, ...]], where: object) -> None:
    """Compare names, shapes and types of the stored tensors with the model.

    `from_pretrained(output_loading_info=True)` tells as much of names and shapes, but only after it has read all
    weights, and turns a tensor of whole numbers into weights without a word.

    Raises:
        CheckpointError: names the first ten and counts all missing and extra tensors, those of the wrong shape, and
            those of a type that no weights have: converted, they would be other numbers.
    """
    known = {name: stored for name, stored in found.items() if name in expected}
    wrong = {name: shape for name, (shape, _) in known.items() if shape != expected[name]}
    faults = {
        "are missing": [name for name in expected if name not in found],
        "are not part of the model": [name for name in found if name not in expected],
        "have the wrong shape": [f"{name} is {shape}, expected {expected[name]}" for name, shape in wrong.items()],
        "are no floating-point weights": [
            f"{n} is {dtype}" for n, (_, dtype) in known.items() if dtype not in _WEIGHT_TYPES
        ],
    }
    complaints = [f"{len(names)} tensors {fault} ({listed(names)})" for fault, names in faults.items() if names]
    if complaints:
        raise CheckpointError("; ".join(complaints), where=where, hint="check that config and weights belong together")
