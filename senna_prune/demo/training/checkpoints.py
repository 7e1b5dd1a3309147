"""Training checkpoints: named tensors in safetensors, so that a killed run goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write atomically: a kill while writing leaves the previous checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, draft)
    draft.replace(path)


def load_checkpoint(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a checkpoint, None if there is none yet."""
    return load_file(path) if path.is_file() else None
