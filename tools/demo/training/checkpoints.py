"""Training checkpoints: named tensors in safetensors, tied to the recipe, so that a killed run goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from senna_prune.errors import CheckpointError
from senna_prune.files import accessing, decode_json, open_regular

Identity = Mapping[str, object]
"""What a run is: the recipe's numbers, data and versions; whatever can be written as JSON."""
ELSE = "give the settings it was made with, or another --work"


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], identity: Identity) -> None:
    """Write atomically: a kill while writing leaves the previous checkpoint.

    Raises:
        FileError: it cannot be written.
    """
    draft = path.with_name(path.name + ".part")
    with accessing(path, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        try:
            save_file(content, draft, {"identity": json.dumps(identity)})
        except SafetensorError as error:  # how it reports a full disk
            raise OSError(str(error)) from error
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(path)


def load_checkpoint(path: Path, identity: Identity) -> dict[str, Tensor] | None:
    """The tensors of a checkpoint, None if there is none yet.

    Raises:
        CheckpointError: it belongs to a run of another recipe, data or library versions, or is no checkpoint.
    """
    if not path.exists():
        return None
    open_regular(path, error=CheckpointError).close()
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("identity")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError("not a training checkpoint", where=path, hint=ELSE) from error
    if text is None:
        raise CheckpointError("not a training checkpoint", where=path, hint=ELSE)
    made_with = decode_json(text, path, error=CheckpointError)
    here = json.loads(json.dumps(identity))
    names = [name for name in {**made_with, **here} if made_with.get(name) != here.get(name)]
    if names:
        differences = ", ".join(f"{name} was {made_with.get(name)}, is {here.get(name)}" for name in names)
        raise CheckpointError(f"it was made with another recipe: {differences}", where=path, hint=ELSE)
    return tensors
