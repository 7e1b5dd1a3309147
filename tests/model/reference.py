"""Checkpoints in the released format, written from a tiny Senna."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from senna_prune.model import SennaForConditionalGeneration, SennaProcessor

Layout = Literal["single", "sharded"]
Suffix = Literal[".bin", ".safetensors"]

_NAMES = (
    (re.compile(r"^model\.vision_tower\."), "model.vision_tower.vision_tower.vision_model."),
    (re.compile(r"^model\.multi_modal_projector\.linear_1\."), "model.mm_projector.0."),
    (re.compile(r"^model\.multi_modal_projector\.linear_2\."), "model.mm_projector.2."),
    (re.compile(r"^model\.language_model\."), "model."),
)


def reference_tensors(model: SennaForConditionalGeneration) -> dict[str, Tensor]:
    """The model's tensors as the reference names them, with the buffers that old files also hold."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        for pattern, replacement in _NAMES:
            name = pattern.sub(replacement, name)
        tensors[name] = tensor.detach().clone()
    for layer in range(model.config.text_config.num_hidden_layers):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    return tensors


def write_weights(
    folder: Path, tensors: Mapping[str, Tensor], suffix: Suffix, layout: Layout = "single", legacy: bool = False
) -> list[Path]:
    """Weight files, in alphabetical halves if sharded; returns them."""
    safe = suffix == ".safetensors"
    stem = "model" if safe else "pytorch_model"
    names = sorted(tensors)
    halves = [names] if layout == "single" else [names[::2], names[1::2]]
    files: list[Path] = []
    weight_map: dict[str, str] = {}
    for number, part in enumerate(halves, start=1):
        name = f"{stem}{suffix}" if layout == "single" else f"{stem}-{number:05d}-of-{len(halves):05d}{suffix}"
        shard = {key: tensors[key] for key in part}
        if safe:
            save_file(shard, folder / name)
        else:
            torch.save(shard, folder / name, _use_new_zipfile_serialization=not legacy)
        files.append(folder / name)
        weight_map |= dict.fromkeys(part, name)
    if layout == "sharded":
        (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return files


def reference_config(model: SennaForConditionalGeneration, **changes: Any) -> dict[str, Any]:
    """config.json as the reference saves it."""
    text = model.config.text_config
    fields = "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads"
    fields += " hidden_act max_position_embeddings rms_norm_eps pad_token_id"
    raw = {field: getattr(text, field) for field in fields.split()}
    raw |= {
        "model_type": "llava_llama",
        "mm_vision_tower": "tower",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_projector_type": "mlp2x_gelu",
        "image_aspect_ratio": "pad",
        "torch_dtype": "float32",
    }
    return {key: value for key, value in (raw | changes).items() if value is not None}


def write_reference(
    folder: Path,
    model: SennaForConditionalGeneration,
    processor: SennaProcessor,
    suffix: Suffix = ".safetensors",
    layout: Layout = "single",
    tower_inside: bool = True,
    legacy: bool = False,
    **config_changes: Any,
) -> Path:
    """A complete checkpoint with its tower both inside (unless told otherwise) and in the folder `tower`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(reference_config(model, **config_changes)))
    tensors = reference_tensors(model)
    if not tower_inside:
        tensors = {name: tensor for name, tensor in tensors.items() if "vision_tower" not in name}
    write_weights(folder, tensors, suffix, layout, legacy)
    processor.tokenizer.save_pretrained(folder)
    write_tower(folder / "tower", model)
    return folder


def write_tower(folder: Path, model: SennaForConditionalGeneration, whole_clip: bool = False) -> Path:
    """The vision tower as a CLIP folder: a vision model, or the vision half of a whole CLIP model."""
    folder.mkdir(parents=True, exist_ok=True)
    vision = model.config.vision_config.to_dict()
    config = {"model_type": "clip", "vision_config": vision} if whole_clip else vision
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {"vision_model." + name: t.clone() for name, t in model.model.vision_tower.state_dict().items()}
    tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    if whole_clip:
        tensors |= {"text_model.final_layer_norm.bias": torch.zeros(4), "logit_scale": torch.tensor(1.0)}
    write_weights(folder, tensors, ".safetensors")
    return folder


def copy_folder(source: Path, destination: Path) -> Path:
    """A writable copy of a folder of the reference data."""
    destination.mkdir(parents=True)
    for path in source.rglob("*"):
        target = destination / path.relative_to(source)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return destination
