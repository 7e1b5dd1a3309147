"""Convert a released checkpoint to our format."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from senna_prune.errors import CheckpointError, FileError
from senna_prune.files import accessing, write_json
from senna_prune.model.checkpoint import (
    DIGEST_FILE,
    Checkpoint,
    checkpoint_digest,
    file_stamps,
    generation_config,
    open_checkpoint,
)
from senna_prune.model.modeling import SennaForConditionalGeneration


def import_checkpoint(source: str | Path, destination: str | Path, vision_tower: str | Path | None = None) -> str:
    """Convert a checkpoint to our format, file by file; returns its digest.

    Memory holds one file of weights at a time. Everything is written beside `destination` and renamed at the end: an
    interrupted run leaves no destination, and the next run clears what it left.

    Raises:
        CheckpointError: as `open_checkpoint`; or the destination exists or cannot be written.
    """
    destination = Path(destination)
    with accessing(destination, "written", error=CheckpointError):
        exists = destination.exists()
    if exists:
        raise CheckpointError("the destination exists", where=destination, hint="remove it or choose another")
    checkpoint = open_checkpoint(source, vision_tower)
    checkpoint.check()
    draft = destination.with_name(f".{destination.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        _write_shards(checkpoint, draft)
        checkpoint.config.architectures = [SennaForConditionalGeneration.__name__]
        checkpoint.config.save_pretrained(draft)
        checkpoint.processor.save_pretrained(draft)
        generation_config(checkpoint.config).save_pretrained(draft)
        digest = checkpoint_digest(draft)
        write_json(draft / DIGEST_FILE, {"digest": digest, "files": file_stamps(draft)})
        draft.rename(destination)
    except (OSError, SafetensorError, FileError) as error:
        raise CheckpointError(
            f"the checkpoint cannot be written ({error})", where=destination, hint="check space and permissions"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return digest


def _write_shards(checkpoint: Checkpoint, folder: Path) -> None:
    drafts: list[tuple[Path, list[str]]] = []
    for shard in checkpoint.shards():
        if shard:
            drafts.append((folder / f"part-{len(drafts)}", sorted(shard)))
            save_file({name: shard[name].contiguous() for name in sorted(shard)}, drafts[-1][0], {"format": "pt"})
    weight_map: dict[str, str] = {}
    for number, (draft, names) in enumerate(drafts, start=1):
        name = f"model-{number:05d}-of-{len(drafts):05d}.safetensors" if len(drafts) > 1 else "model.safetensors"
        draft.rename(folder / name)
        weight_map |= dict.fromkeys(names, name)
    if len(drafts) > 1:
        total = sum((folder / name).stat().st_size for name in set(weight_map.values()))
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(folder / "model.safetensors.index.json", index)
