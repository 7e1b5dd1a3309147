"""The released checkpoint format (`llava_llama`): its configuration, tensor names and where its vision tower is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from senna_prune.errors import CheckpointError
from senna_prune.files import accessing
from senna_prune.model.configuration import SennaConfig
from senna_prune.model.images import AspectRatio
from senna_prune.model.tensor_files import as_checkpoint_error, read_object, read_tensors, weight_files

MODEL_TYPE = "llava_llama"
RELEASED_TOWER = "clip-vit-large-patch14-336"

_LLAMA_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)
_RENAMED = (
    (re.compile(r"^model\.vision_tower\.vision_tower\.(?:vision_model\.)?"), "model.vision_tower."),
    (re.compile(r"^model\.mm_projector\.0\."), "model.multi_modal_projector.linear_1."),
    (re.compile(r"^model\.mm_projector\.2\."), "model.multi_modal_projector.linear_2."),
    (re.compile(r"^model\.(embed_tokens|layers|norm)\."), r"model.language_model.\1."),
)
_STALE = re.compile(r"rotary_emb\.inv_freq$|embeddings\.position_ids$")
"""Buffers that old transformers stored; both are computed."""


@dataclass(frozen=True)
class ReferenceCheckpoint:
    """An opened checkpoint in the released format; tensors are read when asked for.

    Attributes:
        folder: where it is.
        config: the configuration it amounts to.
        image_aspect_ratio: how its images are prepared.
        tower: folder of the CLIP tower, or None where the checkpoint's own is used.
    """

    folder: Path
    config: SennaConfig
    image_aspect_ratio: AspectRatio
    tower: Path | None

    def shards(self) -> Iterator[dict[str, Tensor]]:
        """Tensors under our names, file by file, the separate tower last. Drop one before taking the next.

        Raises:
            CheckpointError: a file cannot be read.
        """
        for path in weight_files(self.folder):
            renamed = {rename(name): tensor for name, tensor in read_tensors(path).items() if not _STALE.search(name)}
            if self.tower is not None:
                renamed = {name: tensor for name, tensor in renamed.items() if not _is_tower(name)}
            yield renamed
        if self.tower is not None:
            for path in weight_files(self.tower):
                yield _tower_tensors(read_tensors(path))


def open_reference(folder: Path, tower: Path | None = None) -> ReferenceCheckpoint:
    """Read configuration and tensor shapes; no weights stay in memory.

    Args:
        folder: checkpoint with a `llava_llama` config.json.
        tower: folder of a CLIP model; wins over the tower in the checkpoint, as the reference's own loader has it.
            Without it the checkpoint's own tower is taken, else the one that `mm_vision_tower` names. (Deviation: the
            reference always reads `mm_vision_tower`; the tower was frozen in training, so they are equal.)

    Raises:
        CheckpointError: not this format, an unsupported variant, or no vision tower.
    """
    raw = read_object(folder / "config.json")
    _check_variant(raw, folder)
    shapes = {
        rename(name): tuple(tensor.shape)
        for path in weight_files(folder)
        for name, tensor in read_tensors(path).items()
        if not _STALE.search(name)
    }
    has_tower = any(_is_tower(name) for name in shapes)
    separate = named_tower(raw, folder)
    if tower is None and not has_tower:
        if separate is None:
            raise CheckpointError(
                f"no vision tower in the checkpoint, and mm_vision_tower {raw.get('mm_vision_tower')!r} is not a "
                "folder here",
                where=folder,
                hint="pass --vision-tower with a folder of openai/clip-vit-large-patch14-336",
            )
        tower = separate
    with as_checkpoint_error(folder / "config.json"):
        config = SennaConfig(
            vision_config=_vision_config(raw, tower or separate, folder),
            text_config=_text_config(raw, folder),
            vision_feature_layer=raw.get("mm_vision_select_layer", -2),
            num_view_tokens=_num_view_tokens(shapes, folder),
            dtype=raw.get("torch_dtype"),
        )
    image_aspect_ratio: AspectRatio = "pad" if raw.get("image_aspect_ratio") == "pad" else "plain"
    return ReferenceCheckpoint(folder, config, image_aspect_ratio, tower)


def rename(name: str) -> str:
    """A reference tensor name in our model; unknown names stay as they are."""
    for pattern, replacement in _RENAMED:
        name, count = pattern.subn(replacement, name)
        if count:
            break
    return name


def _is_tower(name: str) -> bool:
    return name.startswith("model.vision_tower.")


def _tower_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vision half of a CLIP file: a whole CLIP model, or a vision model with or without its prefix."""
    has_prefix = any(name.startswith("vision_model.") for name in tensors)
    prefix = "vision_model." if has_prefix else ""
    return {
        "model.vision_tower." + name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix) and not _STALE.search(name)
    }


def _check_variant(raw: Mapping[str, Any], folder: Path) -> None:
    """Refuse variants of LLaVA that our model does not compute."""
    for key, value in (("mm_projector_type", "mlp2x_gelu"), ("mm_vision_select_feature", "patch")):
        if raw.get(key, value) != value:
            raise CheckpointError(
                f"{key} is {raw.get(key)!r}, expected {value!r}",
                where=folder / "config.json",
                hint="load a Senna checkpoint",
            )
    if raw.get("image_aspect_ratio") not in (None, "square", "pad"):
        raise CheckpointError(
            f"image_aspect_ratio {raw['image_aspect_ratio']!r} is not supported", where=folder / "config.json"
        )


def _text_config(raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    needed = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    for key in needed:
        if not isinstance(raw.get(key), int):
            raise CheckpointError(f"{key} is missing or not a number", where=folder / "config.json")
    fields = {key: raw[key] for key in _LLAMA_FIELDS if raw.get(key) is not None}
    return {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **fields}


def named_tower(raw: Mapping[str, Any], folder: Path) -> Path | None:
    """The folder that `mm_vision_tower` names, beside the weights or as it stands, if it is here."""
    name = raw.get("mm_vision_tower")
    if not isinstance(name, str):
        return None
    with accessing(name, "read", error=CheckpointError):
        return next((path for path in (folder / name, Path(name)) if (path / "config.json").is_file()), None)


def _vision_config(raw: Mapping[str, Any], tower: Path | None, folder: Path) -> dict[str, Any] | None:
    if tower is None:
        if str(raw.get("mm_vision_tower", "")).rstrip("/").endswith(RELEASED_TOWER):
            return None
        raise CheckpointError(
            f"the shape of the vision tower {raw.get('mm_vision_tower')!r} is unknown",
            where=folder / "config.json",
            hint="pass --vision-tower with the folder of that CLIP model",
        )
    fields = read_object(tower / "config.json")
    if fields.get("model_type") == "clip":
        fields = {"model_type": "clip_vision_model", **(fields.get("vision_config") or {})}
    elif fields.get("model_type") != "clip_vision_model":
        raise CheckpointError(
            f"model_type {fields.get('model_type')!r} is not a CLIP model", where=tower / "config.json"
        )
    return fields


def _num_view_tokens(shapes: Mapping[str, tuple[int, ...]], folder: Path) -> int:
    """From the shape of the adapter's last layer; the released configuration does not hold it."""
    shape = shapes.get("model.img_adapter.adapter.4.bias")
    if shape is None or len(shape) != 1:
        raise CheckpointError(
            "the image adapter is missing (model.img_adapter.adapter.4.bias)",
            where=folder,
            hint="load a Senna checkpoint; plain LLaVA has no adapter",
        )
    return shape[0]
