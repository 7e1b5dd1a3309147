"""`SennaConfig`: a CLIP vision tower, a token-reducing adapter per view and a Llama decoder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from transformers import CLIPVisionConfig, LlamaConfig, PretrainedConfig

from senna_prune.cost import ModelShape
from senna_prune.errors import CheckpointError
from senna_prune.task.labels import CAMERAS

_LIMITS = {
    "num_views": (1, 64),
    "num_view_tokens": (1, 1 << 14),
    "vision_feature_layer": (-1024, 1024),
    "image_token_id": (-1, 1 << 31),
    "vocab_size": (1, 1 << 24),
    "intermediate_size": (1, 1 << 18),
    "max_position_embeddings": (1, 1 << 30),
    "num_channels": (1, 64),
    **dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads"), (1, 1024)),
    **dict.fromkeys(("image_size", "patch_size", "head_dim"), (1, 4096)),
    "hidden_size": (1, 1 << 16),
}
"""Least and largest value of whole numbers in a configuration, far beyond any model of this kind."""
_POSITIVE = ("rope_theta", "rms_norm_eps", "layer_norm_eps")


class SennaConfig(PretrainedConfig):
    """Configuration of Senna; the defaults are the released 7B model.

    Attributes:
        vision_config: the CLIP vision tower (default: ViT-L/14 at 336 pixels).
        text_config: the Llama decoder (default: Vicuna-7B-v1.5).
        num_views: cameras per frame.
        cameras: their names in the order of the prompt's labels; None is nuScenes' six.
        num_view_tokens: visual tokens per view that leave the adapter.
        vision_feature_layer: hidden state of the tower that is read, counted as in `hidden_states` (0 is the embedding
            output, -1 the output of the last layer).
        image_token_id: id of the placeholder that stands for one visual token; -1 becomes the vocabulary size. It lies
            outside the embedding, as the tokenizer of the released model has no image token.

    Raises:
        CheckpointError: a value of the wrong type, or one that no model can have.
    """

    model_type = "senna"
    sub_configs: ClassVar[dict[str, type[PretrainedConfig]]] = {
        "vision_config": CLIPVisionConfig,
        "text_config": LlamaConfig,
    }

    vision_config: Any = None
    text_config: Any = None
    num_views: int = 6
    cameras: Any = None
    num_view_tokens: int = 128
    vision_feature_layer: int = -2
    image_token_id: int = -1
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.vision_config is None:
            self.vision_config = {
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "image_size": 336,
                "patch_size": 14,
                "projection_dim": 768,
            }
        self.vision_config = _part("vision_config", self.vision_config, CLIPVisionConfig)
        if self.text_config is None:
            self.text_config = {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "pad_token_id": 0}
        self.text_config = _part("text_config", self.text_config, LlamaConfig)
        _check_numbers("the model", vars(self))
        if self.cameras is not None and not _name_views(self.cameras, self.num_views):
            problem = f"cameras does not name {self.num_views} cameras, each once, in printable text"
            raise CheckpointError(problem, where="config.json")
        if self.image_token_id == -1:
            self.image_token_id = self.text_config.vocab_size
        if self.image_token_id < self.text_config.vocab_size:
            problem = f"image_token_id {self.image_token_id} is a word of the vocabulary"
            raise CheckpointError(problem, where="config.json")
        depth = self.vision_config.num_hidden_layers
        if not 0 <= self.num_vision_layers <= depth:
            problem = f"vision_feature_layer {self.vision_feature_layer} does not exist in a tower of {depth} layers"
            raise CheckpointError(problem, where="config.json")
        super().__post_init__(**kwargs)
        if self.dtype is not None and not (isinstance(self.dtype, torch.dtype) and self.dtype.is_floating_point):
            raise CheckpointError(f"dtype {self.dtype!r} is no floating-point type of torch's", where="config.json")

    @property
    def camera_names(self) -> tuple[str, ...]:
        """The cameras in the order of the prompt's labels; empty where there are not six and none are named."""
        if self.cameras is not None:
            return tuple(self.cameras)
        return CAMERAS if self.num_views == len(CAMERAS) else ()

    @property
    def num_vision_layers(self) -> int:
        """How many layers of the tower run: the later ones do not reach the features that are read."""
        layer = self.vision_feature_layer
        return layer if layer >= 0 else self.vision_config.num_hidden_layers + 1 + layer

    @property
    def num_patches(self) -> int:
        """Patches per view, without the class token."""
        return (self.vision_config.image_size // self.vision_config.patch_size) ** 2


def model_shape(config: SennaConfig, dtype: torch.dtype) -> ModelShape:
    """The numbers of a configuration that decide its cost, when run in `dtype`."""
    vision, text = config.vision_config, config.text_config
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return ModelShape(
        views=config.num_views,
        patches=config.num_patches,
        patch_values=vision.num_channels * vision.patch_size**2,
        vision_width=vision.hidden_size,
        vision_mlp=vision.intermediate_size,
        vision_layers=config.num_vision_layers,
        view_tokens=config.num_view_tokens,
        width=text.hidden_size,
        mlp=text.intermediate_size,
        layers=text.num_hidden_layers,
        vocabulary=text.vocab_size,
        query_width=text.num_attention_heads * head_size,
        key_width=text.num_key_value_heads * head_size,
        value_bytes=dtype.itemsize,
    )


def _part(name: str, value: Any, kind: type[PretrainedConfig]) -> PretrainedConfig:
    """One half of the model, from its dictionary."""
    is_raw = isinstance(value, dict) and value.get("model_type", kind.model_type) == kind.model_type
    if not isinstance(value, kind) and not is_raw:
        raise CheckpointError(f"{name} is not a configuration of {kind.model_type!r}", where="config.json")
    _check_numbers(name, value if is_raw else vars(value))
    return kind(**value) if is_raw else value


def _name_views(names: object, count: int) -> bool:
    """Whether a value names so many cameras, in words that can stand in a prompt's label."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return False
    return len(set(names)) == len(names) == count and all(
        name and name.isprintable() and not set(name) & set("<>/") for name in names
    )


def _check_numbers(name: str, fields: Mapping[str, Any]) -> None:
    """Refuse numbers that no model of this kind has, before anything is built or allocated with them.

    Raises:
        CheckpointError: names the field.
    """
    for field, (low, high) in _LIMITS.items():
        value = fields.get(field)
        if value is None:
            continue
        if type(value) is not int:
            raise CheckpointError(f"{field} is {value!r}, not a whole number", where="config.json")
        if not low <= value <= high:
            raise CheckpointError(f"{field} of {name} is {value}, not in {low}..{high}", where="config.json")
    heads, shared = fields.get("num_attention_heads"), fields.get("num_key_value_heads")
    if heads and shared and heads % shared:
        raise CheckpointError(f"num_attention_heads {heads} is no multiple of {shared}", where="config.json")
    side, patch = fields.get("image_size"), fields.get("patch_size")
    if side and patch and patch > side:
        raise CheckpointError(f"patch_size {patch} is larger than image_size {side}", where="config.json")
    for field, number in _floats(fields):
        if not math.isfinite(number) or (field in _POSITIVE and number <= 0):
            raise CheckpointError(f"{field} of {name} is {number}", where="config.json", hint="copy the file again")


def _floats(value: object, field: str = "") -> Iterator[tuple[str, float]]:
    """The floating-point numbers at any depth, each with the name of its field."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _floats(inner, str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _floats(inner, field)
    elif isinstance(value, float) or (field in _POSITIVE and isinstance(value, int)):
        yield field, float(value)
