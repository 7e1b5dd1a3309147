"""What a `prune` context knows of the calls of a model, and the model's methods that it stands in for meanwhile."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor

from senna_prune.engine.decode import DecodeStep, prompt_of
from senna_prune.engine.prompt_pass import PromptPass
from senna_prune.errors import PruningError
from senna_prune.hosts.host import Host, attach_vision_scores, replaced
from senna_prune.hosts.mismatch import mismatches_named

IGNORED_LABEL = -100
REFUSED_OPTIONS = {
    "guidance_scale": "read a second prompt without images beside the one that is pruned",
    "prefill_chunk_size": "read a prompt in pieces, and tokens are chosen by all of it",
    "assistant_early_exit": "skip decoder layers, of which each has its own tokens",
}
"""Options of `generate`, and what it would do."""


class Call(threading.local):
    """The call of the model that this thread is in.

    Attributes:
        prompt_width, generated: columns that `generate` began with, and how many it has added.
        inputs, images: what it was given, and what its images were encoded to, until the decoder is called.
        decoded: whether its decoder was called; None outside.
        running: the tokens that run through the decoder.
        labelled: whether it has labels.
        columns: of a prompt with labels that was cut, where each row of the logits stood in the batch, (batch, n), -1
            for padding.
    """

    prompt_width = 0
    generated = 0
    inputs: Mapping[str, Any] = {}
    images: Any = None
    decoded: bool | None = None
    running: PromptPass | DecodeStep | None = None
    labelled = False
    columns: Tensor | None = None


class Calls:
    """The calls of a model, each in its thread.

    Args:
        host: reads the model, or None.
        looks: images are encoded with vision scores.
    """

    def __init__(self, host: Host | None, looks: bool) -> None:
        self.host, self.looks = host, looks
        self.call, self.looking = Call(), threading.Lock()

    @property
    def running(self) -> PromptPass | DecodeStep | None:
        """What runs through the decoder in this thread."""
        return self.call.running

    @running.setter
    def running(self, running: PromptPass | DecodeStep | None) -> None:
        self.call.running = running

    @contextmanager
    def patched(self, model: Any) -> Iterator[None]:
        """Inside, the model asks this context whenever it generates, computes a loss or encodes images."""
        self.generation_config = getattr(model, "generation_config", None)
        methods: dict[str, Any] = {
            "generate": self.generate,
            "prepare_inputs_for_generation": self.prepare,
            "loss_function": self.loss,
        }
        with ExitStack() as stack:
            for name, instead in methods.items():
                own = getattr(model, name, None)
                if own is not None:
                    key = "_loss_function" if name == "loss_function" else name
                    stack.enter_context(replaced(model, key, functools.wraps(own)(partial(instead, own))))
            if self.host is not None:
                stack.enter_context(mismatches_named(self.host.model))
                stack.enter_context(self.host.patched_image_encoder(self.encode))
            yield

    def loss(self, loss: Callable[..., Any], logits: Tensor, labels: Tensor, *args: Any, **kwargs: Any) -> Any:
        """In place of the model's `loss`: logits are compared with the labels of the tokens they belong to."""
        columns = self.call.columns
        if columns is not None:
            columns = columns[:, -logits.shape[1] :].to(labels.device)
            labels = labels.gather(1, columns.clamp(min=0)).masked_fill(columns < 0, IGNORED_LABEL)
        return loss(logits, labels, *args, **kwargs)

    def generate(self, generate: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """In place of the model's `generate`: refuse options under which it does not read one prompt in one pass."""
        config = kwargs.get("generation_config") or (*args, None, None)[1] or self.generation_config
        for option, what in REFUSED_OPTIONS.items():
            value = kwargs.get(option, getattr(config, option, None))
            if value is not None and (option, value) != ("guidance_scale", 1):
                raise PruningError(f"generate would {what}", where=option, hint="leave it out inside a prune context")
        return generate(*args, **kwargs)

    def prepare(self, prepare: Callable[..., Any], input_ids: Tensor, **kwargs: Any) -> Any:
        """In place of the model's `prepare_inputs_for_generation`: `generate` tells how many tokens it has made, and
        hears how many were read, where it would count those that the first layer's cache holds."""
        cache: Any = kwargs.get("past_key_values")
        width = input_ids.shape[1]
        if kwargs.get("is_first_iteration"):
            self.call.prompt_width = width
            prompt = prompt_of(cache)
            if prompt is not None and kwargs.get("next_sequence_length") == width - cache.get_seq_length():
                kwargs["next_sequence_length"] = width - prompt.read(cache)
        self.call.generated = max(width - self.call.prompt_width, 0)
        return prepare(input_ids, **kwargs)

    def encode(self, encode: Callable[..., Any], images: dict[str, Any]) -> Any:
        """The model encodes images, by `generate` before it is called, or inside the call."""
        if self.host is not None and self.looks:
            with self.looking:  # a host's own hooks on the tower tell no threads apart
                self.call.images = attach_vision_scores(self.host, encode, images)
        else:
            self.call.images = encode(**images)
        return self.call.images
