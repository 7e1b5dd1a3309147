"""Answers to chat messages with images, generated while visual tokens are pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch

from senna_prune.devices import device_of
from senna_prune.engine import prune
from senna_prune.errors import InputError, as_error, foreign_errors
from senna_prune.harness.arguments import cut, generation_arguments
from senna_prune.hosts.llava_next import pack_spatial
from senna_prune.pruning import Pruner

Conversation = list[dict[str, Any]]
"""Messages as chat templates of transformers take them: role, and content as text or in parts of type text or image."""


OPTIONS_FAIL = (TypeError, ValueError, ArithmeticError)
"""What `generate` raises over options that it cannot follow."""


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
    """Images in the order in which the conversations show them.

    Raises:
        InputError: a part of a message is a video, audio, or anything else but text and an image.
    """
    parts = [part for messages in conversations for message in messages for part in _parts(message)]
    for part in parts:
        if part.get("type") not in ("text", "image"):
            problem = f"{part.get('type')} cannot be pruned"
            raise InputError(problem, where="task", hint="choose a task of text and images")
    return [part.get("image") for part in parts if part["type"] == "image"]


def _parts(message: Mapping[str, Any]) -> list[Any]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content or [])


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
    names: Sequence[str] | None = None,
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
        names: what an error calls each conversation; default "conversation 0" and so on.

    Raises:
        PruningError: the pruner does not fit the model.
        InputError: a conversation cannot be read, and is named; or `asked` cannot be done.
    """
    names = names or [f"conversation {number}" for number in range(len(conversations))]
    tokenizer, known = processor.tokenizer, vars(model.generation_config)
    options = generation_arguments(asked, known, max_new_tokens)
    inputs = _read(processor, conversations, list(pictures), names).to(device_of(model), model.dtype)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    marks = {"eos_token_id": end, "pad_token_id": end if pad is None else pad}
    with torch.inference_mode():
        if spatial and pictures:
            inputs = pack_spatial(model, inputs)
        with prune(model, pruner) as trace, as_error(InputError, "generate refuses", "generation_kwargs", OPTIONS_FAIL):
            ids = model.generate(**inputs, **marks, **options)
    new = ids[:, inputs["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    # Beam search repeats prompts.
    samples = trace.samples[:: len(trace.samples) // len(conversations)]
    return [
        Answer(cut(text, asked.get("until")), length(row, end), sample.num_visual, mean(sample.entering))
        for text, row, sample in zip(texts, new.tolist(), samples, strict=True)
    ]


def _read(processor: Any, conversations: Sequence[Conversation], images: list[Any], names: Sequence[str]) -> Any:
    """Inputs of a batch of conversations, padded on the left.

    Raises:
        InputError: names the one that holds a literal mark of an image, or that the processor cannot read.
    """
    counts = [len(pictures_of([one])) for one in conversations]
    prompts = []
    for one, count, name in zip(conversations, counts, names, strict=True):
        with as_error(InputError, "the chat template cannot write it", name):
            prompts.append(processor.apply_chat_template(one, tokenize=False, add_generation_prompt=True))
        for kind, wanted in (("image", count), ("video", 0)):
            mark = getattr(processor, f"{kind}_token", None)
            if mark and (found := prompts[-1].count(mark)) != wanted:
                problem = f"its prompt holds {found} marks {mark}, but {wanted} {kind}s were given"
                raise InputError(problem, where=name, hint=f"write {mark} in another way where it is text")

    def read(prompts: list[str], images: list[Any]) -> Any:
        padded = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
        return processor(images=images or None, text=prompts, **padded)

    try:
        return read(prompts, images)
    except foreign_errors():
        begin = 0
        for prompt, count, name in zip(prompts, counts, names, strict=True):
            with as_error(InputError, "the processor cannot read it", name):
                read([prompt], images[begin : begin + count])
            begin += count
        with as_error(InputError, "the processor cannot read them together", ", ".join(names)):
            raise


def length(generated: Sequence[int], end: int) -> int:
    """Tokens up to the first end, which counts."""
    return generated.index(end) + 1 if end in generated else len(generated)
