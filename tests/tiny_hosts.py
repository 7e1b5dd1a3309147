"""Tiny random models of every host beside Senna, with transformers' own processors: no files, no network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.fakes import VOCAB_SIZE, tiny_tokenizer

HOSTS = ("llava", "llava_next", "qwen2_5_vl", "qwen3_vl")
MROPE = ("qwen2_5_vl", "qwen3_vl")
"""Hosts whose positions follow from the images."""
IMAGE, VIDEO = "<image>", "<video>"
LAYERS, HEADS = 4, 4
SIDE, PATCH = 56, 14
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "vocab_size": VOCAB_SIZE + 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    # Random weights of the usual spread give nearly uniform attention: nothing would depend on what is pruned.
    "initializer_range": 0.2,
}
CLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": PATCH,
    "initializer_range": 0.2,
}
QWEN = {
    "depth": 3,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 4,
    "out_hidden_size": 64,
    "patch_size": PATCH,
    "spatial_merge_size": 2,
    "window_size": SIDE,
    "fullatt_block_indexes": [1],
    "initializer_range": 0.2,
}
QWEN3 = {name: value for name, value in QWEN.items() if name not in ("window_size", "fullatt_block_indexes")}
QWEN3 |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1], "patch_size": 16}
EXPERTS = {"head_dim": 16, "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
PINPOINTS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]


class ImagesOnly:
    """Without the processor of videos, which needs torchvision."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        if argument_name != "video_processor":
            return super().check_argument_for_proper_class(argument_name, argument)  # type: ignore[misc]
        return type(argument)


class Qwen25ImagesOnly(ImagesOnly, Qwen2_5_VLProcessor):
    """See `ImagesOnly`."""


class Qwen3ImagesOnly(ImagesOnly, Qwen3VLProcessor):
    """See `ImagesOnly`."""


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE, VIDEO], "pad_token": "<unk>"})
    tokenizer.padding_side = "left"
    return tokenizer


def tiny_host(kind: str, attention: str = "sdpa", seed: int = 0) -> tuple[Any, Any]:
    """A random model of 4 layers in evaluation mode, float32, the same for the same arguments, and its processor."""
    tokenizer = _tokenizer()
    token = tokenizer.convert_tokens_to_ids(IMAGE)
    tower = {"vision_config": {"model_type": "clip_vision_model", **CLIP}, "image_token_id": token}
    llama = {"text_config": {"model_type": "llama", **TEXT}}
    size = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    reading: dict[str, Any] = {"patch_size": PATCH, "vision_feature_select_strategy": "default"}
    reading |= {"num_additional_image_tokens": 1}
    model_class: Any
    processor: Any
    if kind == "llava":
        model_class, config = LlavaForConditionalGeneration, LlavaConfig(**tower, **llama)
        processor = LlavaProcessor(LlavaImageProcessorPil(**size), tokenizer, **reading)
    elif kind == "llava_next":
        model_class = LlavaNextForConditionalGeneration
        config = LlavaNextConfig(**tower, **llama, image_grid_pinpoints=PINPOINTS)
        images = LlavaNextImageProcessorPil(**size, image_grid_pinpoints=PINPOINTS)
        processor = LlavaNextProcessor(images, tokenizer, **reading)
    else:
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
        marks = {"image_token_id": token, "video_token_id": tokenizer.convert_tokens_to_ids(VIDEO)}
        model_class, config_class, vision, text, reader = {
            "qwen2_5_vl": (Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig, QWEN, {}, Qwen25ImagesOnly),
            "qwen3_vl": (Qwen3VLForConditionalGeneration, Qwen3VLConfig, QWEN3, {"head_dim": 16}, Qwen3ImagesOnly),
            "qwen3_vl_moe": (Qwen3VLMoeForConditionalGeneration, Qwen3VLMoeConfig, QWEN3, EXPERTS, Qwen3ImagesOnly),
        }[kind]
        config = config_class(vision_config=vision, text_config=TEXT | {"rope_parameters": rope} | text, **marks)
        tokenizer.image_token, tokenizer.video_token = IMAGE, VIDEO
        patch = config.vision_config.patch_size
        processor = reader(Qwen2VLImageProcessorPil(patch_size=patch, min_pixels=4 * patch * patch), tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class._from_config(config, attn_implementation=attention).eval()
    model.generation_config.pad_token_id = 0
    return model, processor


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """Random pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def prompts(processor: Any, *images: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Inputs for as many prompts as lists of image sizes (height, width) are given, each of another length."""
    # The Qwens want something between two images, in their templates a mark.
    between = " and " if isinstance(processor, Qwen2_5_VLProcessor | Qwen3VLProcessor) else ""
    texts = [
        f"Here {between.join([IMAGE] * len(sizes))} and then, " + "which way " * (i + 2) + "now?"
        for i, sizes in enumerate(images)
    ]
    shown = [picture(*size, seed=10 * i + j) for i, sizes in enumerate(images) for j, size in enumerate(sizes)]
    return dict(processor(images=shown or None, text=texts, return_tensors="pt", padding=True))


TWO = ([(90, 160), (160, 84)], [(112, 112)])
"""A prompt of two images, and one of a single image."""
