"""Weight files of a checkpoint folder: found, opened without unpickling, compared with the model tensor by tensor."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from senna_prune.errors import CheckpointError, as_error, foreign_errors
from senna_prune.files import accessing, open_regular, read_json

NUM_NAMED = 10
"""How many tensors of each kind an error names before it only counts them."""

_LAYOUTS = (
    ("model.safetensors.index.json", "model.safetensors", "model-*.safetensors"),
    ("pytorch_model.bin.index.json", "pytorch_model.bin", "pytorch_model-*.bin"),
)


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
    raise CheckpointError(
        "no weight files", where=folder, hint="expected model*.safetensors or pytorch_model*.bin with their index"
    )


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
        raise CheckpointError(
            f"{len(absent)} of {len(names)} shards are absent ({_listed(absent)})", where=index, hint="download them"
        )
    return [index.parent / name for name in names]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one file, mapped from disk: bytes are read when a tensor is first used.

    `.bin` files are read with `weights_only=True` alone.

    Raises:
        CheckpointError: a truncated or damaged file; a `.bin` that needs unpickling or holds other things than tensors.
    """
    with open_regular(path, error=CheckpointError) as stream:
        head = stream.read(16)
    if head.startswith(b"version https:"):
        raise CheckpointError(
            "a Git LFS pointer, not the weights", where=path, hint="fetch the file with 'git lfs pull'"
        )
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_bin(path, is_zip=head.startswith(b"PK"))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _read_bin(path: Path, is_zip: bool) -> dict[str, Tensor]:
    try:
        whole = not is_zip or zipfile.is_zipfile(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip) if whole else None
    except foreign_errors() as error:
        if culprit := re.search(r"GLOBAL (\S+)|Unsupported (operand|class|global) \S+", str(error)):
            raise CheckpointError(
                f"the file holds pickled objects other than tensors ({culprit[0]}) and was not opened, as that could "
                "run code",
                where=path,
                hint="convert it to safetensors where you trust its origin",
            ) from error
        raise _damaged(path, error) from error
    if not whole:
        raise _damaged(path, "its end is missing")
    if not isinstance(content, dict):
        raise CheckpointError(f"holds a {type(content).__name__}, not a mapping of tensors", where=path)
    for name, value in content.items():
        if not isinstance(name, str):
            raise CheckpointError(f"the name {name!r} is no text", where=path, hint="save the model's state dict alone")
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
            raise CheckpointError(
                f"entry {name!r} is a {type(value).__name__}, not a dense tensor",
                where=path,
                hint="save the model's state dict alone",
            )
    return content


def _damaged(path: Path, reason: object) -> CheckpointError:
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return CheckpointError(
        f"truncated or damaged ({lines[0][:120]})", where=path, hint="download or copy the file again"
    )


Stored = tuple[tuple[int, ...], torch.dtype]
"""Shape and type of a stored tensor."""

_WEIGHT_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def check_tensors(found: Mapping[str, Stored], expected: Mapping[str, tuple[int, ...]], where: object) -> None:
    """Compare names, shapes and types of the stored tensors with the model.

    Raises:
        CheckpointError: names the first ten and counts all missing and extra tensors, those of the wrong shape, and
            those of a type that no weights have: converted, they would be other numbers.
    """
    complaints = []
    if missing := [name for name in expected if name not in found]:
        complaints.append(f"{len(missing)} tensors are missing ({_listed(missing)})")
    if extra := [name for name in found if name not in expected]:
        complaints.append(f"{len(extra)} tensors are not part of the model ({_listed(extra)})")
    known = {name: stored for name, stored in found.items() if name in expected}
    misshaped = [
        f"{name} is {shape}, expected {expected[name]}" for name, (shape, _) in known.items() if shape != expected[name]
    ]
    if misshaped:
        complaints.append(f"{len(misshaped)} tensors have the wrong shape ({_listed(misshaped)})")
    foreign = [f"{name} is {dtype}" for name, (_, dtype) in known.items() if dtype not in _WEIGHT_TYPES]
    if foreign:
        complaints.append(f"{len(foreign)} tensors are no floating-point weights ({_listed(foreign)})")
    if complaints:
        raise CheckpointError("; ".join(complaints), where=where, hint="check that config and weights belong together")


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f", and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return ", ".join(names[:NUM_NAMED]) + more
