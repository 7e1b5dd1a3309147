"""Released checkpoints (`llava_llama`): their configuration, their tensors' names, and the conversion to our format."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaTokenizer

from senna_prune.errors import CheckpointError, FileError
from senna_prune.files import accessing, write_json
from senna_prune.model.checkpoint import (
    DIGEST_FILE,
    Checkpoint,
    checkpoint_digest,
    file_stamps,
    generation_config,
    load_tokenizer,
    named_tower,
    open_checkpoint,
)
from senna_prune.model.configuration import SennaConfig
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.processing import AspectRatio, SennaProcessor
from senna_prune.model.tensor_files import as_checkpoint_error, read_object, read_tensors, weight_files

RELEASED_TOWER = "clip-vit-large-patch14-336"
_ADAPTER = "model.img_adapter.adapter.4.bias"
_NEEDED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_LLAMA_FIELDS = (
    *_NEEDED,
    *("num_key_value_heads", "hidden_act", "max_position_embeddings", "initializer_range", "rms_norm_eps"),
    *("rope_theta", "rope_scaling", "bos_token_id", "eos_token_id", "pad_token_id"),
)
_RENAMED = (
    (re.compile(r"^model\.vision_tower\.vision_tower\.(?:vision_model\.)?"), "model.vision_tower."),
    (re.compile(r"^model\.mm_projector\.0\."), "model.multi_modal_projector.linear_1."),
    (re.compile(r"^model\.mm_projector\.2\."), "model.multi_modal_projector.linear_2."),
    (re.compile(r"^model\.(embed_tokens|layers|norm)\."), r"model.language_model.\1."),
)
_STALE = re.compile(r"rotary_emb\.inv_freq$|embeddings\.position_ids$")
"""Buffers that old transformers stored; both are computed."""


def import_checkpoint(source: str | Path, destination: str | Path, vision_tower: str | Path | None = None) -> str:
    """Convert a checkpoint to our format, file by file; returns its digest.

    Memory holds one file of weights at a time.

    Raises:
        CheckpointError: as `open_checkpoint`; or the destination exists or cannot be written.
    """
    with new_folder(destination) as draft:
        checkpoint = open_checkpoint(source, vision_tower)
        checkpoint.check()
        write_shards(checkpoint.shards(), draft)
        checkpoint.config.architectures = [SennaForConditionalGeneration.__name__]
        checkpoint.config.save_pretrained(draft)
        checkpoint.processor.save_pretrained(draft)
        generation_config(checkpoint.config).save_pretrained(draft)
        digest = checkpoint_digest(draft)
        write_json(draft / DIGEST_FILE, {"digest": digest, "files": file_stamps(draft)})
    return digest


@contextmanager
def new_folder(destination: str | Path) -> Iterator[Path]:
    """A folder beside `destination` to write a checkpoint into; renamed when all is written.

    An interrupted run leaves no destination, and the next run clears what it left.

    Raises:
        CheckpointError: the destination exists or cannot be written.
    """
    destination = Path(destination)
    with accessing(destination, "written", error=CheckpointError):
        exists = destination.exists()
    if exists:
        raise CheckpointError("the destination exists", where=destination, hint="remove it or choose another")
    draft = destination.with_name(f".{destination.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        yield draft
        draft.rename(destination)
    except (OSError, SafetensorError, FileError) as error:
        problem, hint = f"the checkpoint cannot be written ({error})", "check space and permissions"
        raise CheckpointError(problem, where=destination, hint=hint) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_shards(shards: Iterable[Mapping[str, Tensor]], folder: Path) -> None:
    """Write weights file by file, as they come, with an index where there are several; empty ones are left out."""
    drafts: list[tuple[Path, list[str]]] = []
    for shard in shards:
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


def open_released(folder: Path, tower: Path | None = None) -> Checkpoint:
    """Read configuration, tokenizer and tensor shapes; no weights stay in memory.

    Args:
        folder: checkpoint with a `llava_llama` config.json.
        tower: folder of a CLIP model; wins over the tower in the checkpoint, as the reference's own loader has it.
            Without it the checkpoint's own tower is taken, else the one that `mm_vision_tower` names. (Deviation: the
            reference always reads `mm_vision_tower`; the tower was frozen in training, so they are equal.)

    Raises:
        CheckpointError: not this format, an unsupported variant, or no vision tower.
    """
    file, raw = folder / "config.json", read_object(folder / "config.json")
    _check_variant(raw, file)
    shapes = {name: tuple(tensor.shape) for path in weight_files(folder) for name, tensor in _renamed(path).items()}
    separate = named_tower(raw, folder)
    if tower is None and not any(map(_is_tower, shapes)):
        tower = separate
        if tower is None:
            problem = f"no vision tower in the checkpoint, and mm_vision_tower {raw.get('mm_vision_tower')!r} is not a "
            hint = "pass --vision-tower with a folder of openai/clip-vit-large-patch14-336"
            raise CheckpointError(f"{problem}folder here", where=folder, hint=hint)
    if len(shapes.get(_ADAPTER, ())) != 1:
        hint = "load a Senna checkpoint; plain LLaVA has no adapter"
        raise CheckpointError(f"the image adapter is missing ({_ADAPTER})", where=folder, hint=hint)
    text = {key: raw[key] for key in _LLAMA_FIELDS if raw.get(key) is not None}
    with as_checkpoint_error(file):
        config = SennaConfig(
            vision_config=_vision_config(raw, tower or separate, file),
            text_config={"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **text},
            vision_feature_layer=raw.get("mm_vision_select_layer", -2),
            num_view_tokens=shapes[_ADAPTER][0],  # the released configuration does not hold it
            dtype=raw.get("torch_dtype"),
        )

    def shards() -> Iterator[dict[str, Tensor]]:
        for path in weight_files(folder):
            yield {name: tensor for name, tensor in _renamed(path).items() if tower is None or not _is_tower(name)}
        for path in () if tower is None else weight_files(tower):
            yield _tower_tensors(read_tensors(path))

    pieces = "tokenizer.model" if (folder / "tokenizer.model").is_file() else "tokenizer.json"
    tokenizer = load_tokenizer(LlamaTokenizer, folder, pieces)
    padding: AspectRatio = "pad" if raw.get("image_aspect_ratio") == "pad" else "plain"
    return Checkpoint(folder, config, SennaProcessor.for_config(config, tokenizer, padding), shards)


def _renamed(path: Path) -> dict[str, Tensor]:
    """The tensors of a file under our names; unknown names stay as they are."""
    renamed = {}
    for name, tensor in read_tensors(path).items():
        if not _STALE.search(name):
            matches = (pattern.sub(replacement, name) for pattern, replacement in _RENAMED if pattern.search(name))
            renamed[next(matches, name)] = tensor
    return renamed


def _is_tower(name: str) -> bool:
    return name.startswith("model.vision_tower.")


def _tower_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vision half of a CLIP file: a whole CLIP model, or a vision model with or without its prefix."""
    prefix = "vision_model." if any(name.startswith("vision_model.") for name in tensors) else ""
    return {
        "model.vision_tower." + name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix) and not _STALE.search(name)
    }


def _check_variant(raw: Mapping[str, Any], file: Path) -> None:
    """Refuse variants of LLaVA that our model does not compute, and a configuration without sizes."""
    for key, value in (("mm_projector_type", "mlp2x_gelu"), ("mm_vision_select_feature", "patch")):
        if raw.get(key, value) != value:
            problem = f"{key} is {raw.get(key)!r}, expected {value!r}"
            raise CheckpointError(problem, where=file, hint="load a Senna checkpoint")
    if raw.get("image_aspect_ratio") not in (None, "square", "pad"):
        raise CheckpointError(f"image_aspect_ratio {raw['image_aspect_ratio']!r} is not supported", where=file)
    for key in _NEEDED:
        if not isinstance(raw.get(key), int):
            raise CheckpointError(f"{key} is missing or not a number", where=file)


def _vision_config(raw: Mapping[str, Any], tower: Path | None, file: Path) -> dict[str, Any] | None:
    if tower is None:
        if str(raw.get("mm_vision_tower", "")).rstrip("/").endswith(RELEASED_TOWER):
            return None
        problem = f"the shape of the vision tower {raw.get('mm_vision_tower')!r} is unknown"
        raise CheckpointError(problem, where=file, hint="pass --vision-tower with the folder of that CLIP model")
    fields = read_object(tower / "config.json")
    if fields.get("model_type") == "clip":
        return {"model_type": "clip_vision_model", **(fields.get("vision_config") or {})}
    if fields.get("model_type") != "clip_vision_model":
        problem = f"model_type {fields.get('model_type')!r} is not a CLIP model"
        raise CheckpointError(problem, where=tower / "config.json")
    return fields
