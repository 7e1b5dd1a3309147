"""A tiny random Senna with its processor: no files, no network, built in well under a second."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaTokenizer

from senna_prune.model import SennaConfig, SennaForConditionalGeneration, SennaProcessor
from senna_prune.task.labels import Command
from senna_prune.task.prompts import SYSTEMS, planning_prompt, planning_question

VOCAB_SIZE = 512


@lru_cache(maxsize=1)
def _bpe() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-fallback BPE trained on planning prompts and answers."""
    texts = [planning_prompt(planning_question(speed, command.value)) for speed in range(3) for command in Command]
    texts += [*SYSTEMS.values(), "KEEP, ACCELERATE, DECELERATE, STOP, STRAIGHT, RIGHT_CHANGE, LEFT_CHANGE\n" * 20]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Split("\n", "removed")]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def tiny_tokenizer() -> LlamaTokenizer:
    """A Llama tokenizer of 512 pieces."""
    vocab, merges = _bpe()
    return LlamaTokenizer(vocab=dict(vocab), merges=list(merges), model_max_length=2048)


def tiny_config(
    num_layers: int = 4,
    num_heads: int = 4,
    hidden_size: int = 64,
    num_views: int = 6,
    num_view_tokens: int = 8,
    num_key_value_heads: int | None = None,
) -> SennaConfig:
    """Views of 56x56 pixels in 16 patches; `num_views * num_view_tokens` visual tokens."""
    return SennaConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 56,
            "patch_size": 14,
        },
        text_config={
            "hidden_size": hidden_size,
            "intermediate_size": 2 * hidden_size,
            "num_hidden_layers": num_layers,
            "num_attention_heads": num_heads,
            "num_key_value_heads": num_key_value_heads or num_heads,
            "vocab_size": VOCAB_SIZE,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "pad_token_id": 0,
            # Random weights of the usual spread give nearly uniform attention: nothing would depend on what is pruned.
            "initializer_range": 0.2,
        },
        num_views=num_views,
        num_view_tokens=num_view_tokens,
    )


def tiny_senna(
    seed: int = 0,
    num_layers: int = 4,
    num_heads: int = 4,
    hidden_size: int = 64,
    num_views: int = 6,
    num_view_tokens: int = 8,
    num_key_value_heads: int | None = None,
    attn_implementation: str = "sdpa",
) -> tuple[SennaForConditionalGeneration, SennaProcessor]:
    """A random Senna in evaluation mode, float32, the same for the same arguments, and its processor."""
    config = tiny_config(num_layers, num_heads, hidden_size, num_views, num_view_tokens, num_key_value_heads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SennaForConditionalGeneration._from_config(config, attn_implementation=attn_implementation).eval()
    model.generation_config.pad_token_id = 0
    return model, SennaProcessor.for_config(config, tiny_tokenizer())


def tiny_views(seed: int = 0, num_views: int = 6, size: tuple[int, int] = (90, 160)) -> list[np.ndarray]:
    """Random images of one frame, uint8 arrays of shape (height, width, 3)."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(num_views)]
