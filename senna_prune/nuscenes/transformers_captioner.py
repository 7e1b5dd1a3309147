"""A captioner on any image-text-to-text model of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from senna_prune.devices import find_device
from senna_prune.errors import CheckpointError, as_error
from senna_prune.image_files import open_image


class TransformersCaptioner:
    """Greedy answers of a model that takes images and text, e.g. a LLaVA.

    Args:
        checkpoint: folder or hub name.
        device: where to run it; None = the accelerator if there is one.
        max_new_tokens: longest answer; the reference's is 512.

    Raises:
        InputError: no such device here.
        CheckpointError: the checkpoint is not an image-text-to-text model with a processor.
    """

    def __init__(self, checkpoint: str, device: str | None = None, max_new_tokens: int = 512) -> None:
        self.name = f"{checkpoint}@{max_new_tokens}"
        self.max_new_tokens = max_new_tokens
        place = find_device(device or "auto", "device")
        dtype = torch.float32 if place.type == "cpu" else torch.bfloat16
        with as_error(CheckpointError, "not an image-text-to-text model with a processor", checkpoint):
            self.processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=False)
            model: Any = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=dtype, trust_remote_code=False)
        self.model = model.to(place).eval()

    @torch.inference_mode()
    def caption(self, images: Sequence[Path], question: str) -> str:
        opened = [open_image(path) for path in images]
        inputs = self.processor(images=opened, text=self.prompt(len(opened), question), return_tensors="pt")
        inputs = inputs.to(self.model.device, dtype=self.model.dtype)
        output = self.model.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False)
        answer = output[0, inputs["input_ids"].shape[1] :]
        return self.processor.decode(answer, skip_special_tokens=True).strip()

    def prompt(self, num_images: int, question: str) -> str:
        content = [{"type": "image"}] * num_images + [{"type": "text", "text": question}]
        if self.processor.chat_template:
            turns = [{"role": "user", "content": content}]
            return self.processor.apply_chat_template(turns, add_generation_prompt=True)
        marker = getattr(self.processor, "image_token", "<image>")
        return f"{marker}\n" * num_images + question
