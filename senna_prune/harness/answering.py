"""Answers to chat messages with pictures, generated while visual tokens are pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch

from senna_prune.engine import prune
from senna_prune.errors import InputError
from senna_prune.harness.arguments import cut, generation_arguments
from senna_prune.hosts.llava_next import pack_spatial
from senna_prune.pruning import Pruner

Conversation = list[dict[str, Any]]
"""Messages as chat templates of transformers take them: role, and content in parts of type text or image."""


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        text: without special tokens, up to the first stop string.
        generated: generated tokens, the end included, padding not.
        visual: visual tokens of the prompt.
        kept: visual tokens entering a layer, mean over layers.
    """

    text: str
    generated: int
    visual: int
    kept: float


def pictures_of(conversations: Sequence[Conversation]) -> list[Any]:
    """Pictures in the order in which the conversations show them.

    Raises:
        InputError: a part of a message is a video, audio, or anything else but text and an image.
    """
    parts = [part for messages in conversations for message in messages for part in message["content"]]
    for part in parts:
        if part["type"] not in ("text", "image"):
            raise InputError(f"{part['type']} cannot be pruned", where="task", hint="choose a task of text and images")
    return [part["image"] for part in parts if part["type"] == "image"]


def answers(
    model: Any,
    processor: Any,
    pruner: Pruner,
    conversations: Sequence[Conversation],
    pictures: Sequence[Any],
    asked: Mapping[str, Any],
    *,
    max_new_tokens: int,
    spatial: bool = False,
) -> list[Answer]:
    """Answer a batch of conversations.

    Args:
        model, processor: of a host; the processor has a chat template.
        pruner: see `pruner_for`.
        conversations: each ends where the model is to speak.
        pictures: of all conversations in order.
        asked: a task's `generation_kwargs`, see `generation_arguments`; and `until`, strings that end an answer.
        max_new_tokens: where the task has no limit.
        spatial: see `pack_spatial`; LLaVA-NeXT only.

    Raises:
        PruningError: the pruner does not fit the model.
    """
    tokenizer = processor.tokenizer
    prompts = processor.apply_chat_template(list(conversations), tokenize=False, add_generation_prompt=True)
    padded = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
    inputs = processor(images=list(pictures) or None, text=prompts, **padded).to(model.device, model.dtype)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    marks = {"eos_token_id": end, "pad_token_id": end if pad is None else pad}
    known = vars(model.generation_config)
    with torch.inference_mode():
        if spatial and pictures:
            inputs = pack_spatial(model, inputs)
        with prune(model, pruner) as trace:
            ids = model.generate(**inputs, **marks, **generation_arguments(asked, known, max_new_tokens))
    new = ids[:, inputs["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    # Beam search repeats prompts.
    samples = trace.samples[:: len(trace.samples) // len(prompts)]
    return [
        Answer(cut(text, asked.get("until")), length(row, end), sample.num_visual, mean(sample.entering))
        for text, row, sample in zip(texts, new.tolist(), samples, strict=True)
    ]


def length(generated: Sequence[int], end: int) -> int:
    """Tokens up to the first end, which counts."""
    return generated.index(end) + 1 if end in generated else len(generated)
