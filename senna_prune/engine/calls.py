"""What a `prune` context reads off a call of the model: its prompts, where they end, and what the vision tower saw."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from senna_prune.devices import read_together
from senna_prune.engine.decode import DecodeStep, prompt_of
from senna_prune.engine.decoder import find_decoder
from senna_prune.engine.prefill import PromptPass
from senna_prune.errors import InputError, PruningError
from senna_prune.hosts.host import (
    VISION_SCORES,
    Host,
    attach_vision_scores,
    one_per_prompt,
    replaced,
    split_vision_scores,
)
from senna_prune.hosts.mismatch import mismatches_named
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.base import VISION, Pruner, VisionScores

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


@dataclass(eq=False)
class Calls:
    """Reads calls, each in its thread. Arguments as those of `prune`; `host` is what reads the model, or None."""

    pruner: Pruner
    host: Host | None
    given_layouts: Sequence[TokenLayout] | None
    given_vision: Sequence[VisionScores] | None
    prompt_lengths: Sequence[int] | None
    padding_side: Literal["left", "right"] | None
    call: Call = field(default_factory=Call)
    encoding: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def patched(self, model: Any) -> Iterator[None]:
        """Inside, the model asks this context whenever it generates, computes a loss or encodes images."""
        self.generation_config = getattr(model, "generation_config", None)
        methods: dict[str, Any] = {
            "generate": self.generate,
            "prepare_inputs_for_generation": self.prepare,
            "loss_function": self.loss,
        }
        decoder = find_decoder(model).module
        with ExitStack() as stack:
            if hasattr(decoder, "_deepstack_process"):
                add = decoder._deepstack_process
                stack.enter_context(replaced(decoder, "_deepstack_process", partial(self.add, add)))
            for name, instead in methods.items():
                own = getattr(model, name, None)
                if own is not None:
                    key = "_loss_function" if name == "loss_function" else name
                    stack.enter_context(replaced(model, key, functools.wraps(own)(partial(instead, own))))
            if self.host is not None:
                stack.enter_context(mismatches_named(self.host.model))
                stack.enter_context(self.host.patched_image_encoder(self.encode))
            yield

    def add(self, add: Callable[..., Tensor], hidden: Tensor, places: Tensor, features: Tensor) -> Tensor:
        """In place of the decoder's `_deepstack_process`: visual features that it adds behind a layer (DeepStack) go to
        those tokens that are left."""
        running = self.call.running
        return (
            running.add(hidden, places, features) if isinstance(running, PromptPass) else add(hidden, places, features)
        )

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
        if self.host is not None and VISION in self.pruner.needs and self.given_vision is None:
            with self.encoding:  # a host's own hooks on the tower tell no threads apart
                self.call.images = attach_vision_scores(self.host, encode, images)
        else:
            self.call.images = encode(**images)
        return self.call.images

    def shows_images(self) -> bool:
        """Whether the call brings images or their placeholders."""
        inputs = self.call.inputs
        if self.call.images is not None or inputs.get("pixel_values") is not None:
            return True
        ids = inputs.get("input_ids")
        # What was generated or drafted is no image, whatever it is; looking at it would make the host wait.
        if self.host is None or ids is None or ids.shape[1] == 1 or inputs["generated"] or "token_tree" in inputs:
            return False
        return bool((ids == self.host.model.config.image_token_id).any())

    def prompts(
        self, embeds: Tensor, mask: Tensor | None, inputs: Mapping[str, Any], images: Any
    ) -> tuple[list[TokenLayout], list[int], list[VisionScores] | None]:
        """Layout, first column and vision scores of each prompt of a padded batch (batch, width, d), of which at most
        one thing is read.

        Raises:
            InputError, PruningError: the inputs do not tell them, or contradict each other.
        """
        (batch, width), given, rows = embeds.shape[:2], self.given_layouts, list[Tensor]()
        if given is not None and self.padding_side is not None:
            layouts = one_per_prompt(given, batch, "layouts")
            starts = [width - layout.length if self.padding_side == "left" else 0 for layout in layouts]
        else:
            ids = inputs.get("input_ids") if given is None else None
            read = iter(read_together([one for one in (mask, ids) if one is not None]))
            lengths, starts = spans_of(embeds, None if mask is None else next(read))
            rows = [r[s : s + n] for r, s, n in zip(next(read, ()), starts, lengths, strict=False)]
            layouts = self._layouts(rows, lengths, images)
        return self._without_answers(layouts, inputs, starts, width), starts, self._vision(layouts, images)

    def _layouts(self, rows: Sequence[Tensor], lengths: Sequence[int], images: Any) -> list[TokenLayout]:
        """One layout per prompt: those given, or what the host reads off ids and images."""
        given = self.given_layouts
        if given is None and not rows:
            raise InputError(
                "no input_ids that tell the layout",
                hint="call the model itself, not its forward, with input_ids, or pass layouts= to prune()",
            )
        if given is None:
            assert self.host is not None
            given = self.host.layouts(rows, images)
        layouts = one_per_prompt(given, len(lengths), "layouts")
        for layout, length in zip(layouts, lengths, strict=True):
            if layout.length != length:
                raise InputError(f"a layout of {layout.length} tokens was given for a prompt of {length}")
        return layouts

    def _without_answers(
        self, layouts: list[TokenLayout], inputs: Mapping[str, Any], starts: Sequence[int], width: int
    ) -> list[TokenLayout]:
        """The layouts, with the answers that labels, `logits_to_keep` or `prompt_lengths` tell of."""
        kept, labels, generated = inputs.get("logits_to_keep", 0), inputs.get("labels"), inputs.get("generated", 0)
        if isinstance(kept, Tensor):
            raise PruningError("columns of logits move where tokens are removed", where="logits_to_keep", hint="count")
        if self.prompt_lengths is not None:
            ends = one_per_prompt(self.prompt_lengths, len(layouts), "prompt_lengths")
        elif labels is not None:
            if labels.shape != (len(layouts), width):
                raise InputError(f"{tuple(labels.shape)} labels were given for {(len(layouts), width)} tokens")
            # Without a label the first one is the column behind the last.
            first = nn.functional.pad(labels != IGNORED_LABEL, (0, 1), value=True).int().argmax(dim=1).tolist()
            ends = [column - start for column, start in zip(first, starts, strict=True)]
        elif kept > 1 or generated:
            ends = [width - max(kept - 1, generated) - start for start in starts]
        else:
            return layouts
        for layout, end in zip(layouts, ends, strict=True):
            if layout.views and end < max(span.stop for span in layout.views.values()):
                raise InputError(
                    f"the prompt would end at token {end}, before its last image does",
                    where="labels, logits_to_keep or prompt_lengths",
                    hint="give prompt_lengths= to prune(), or -100 as labels of the prompt",
                )
        answers = [min(max(layout.length - end, 0), layout.length) for layout, end in zip(layouts, ends, strict=True)]
        return [replace(layout, answer=answer) for layout, answer in zip(layouts, answers, strict=True)]

    def _vision(self, layouts: Sequence[TokenLayout], images: Any) -> list[VisionScores] | None:
        """Vision scores per prompt, if the policy needs them and there are any."""
        if VISION not in self.pruner.needs:
            return None
        if self.given_vision is not None:
            return one_per_prompt(self.given_vision, len(layouts), "vision")
        if self.host is None and any(layout.num_visual for layout in layouts):
            raise PruningError(
                f"method {self.pruner.name!r} needs the vision tower's attention, which no file in hosts/ reads off "
                "this model",
                hint="pass vision= to prune()",
            )
        if images is None:
            return None
        if VISION_SCORES not in images:
            raise PruningError(
                f"method {self.pruner.name!r} needs to see the vision tower at work, but the images were encoded "
                "outside the prune context",
                hint="call the model with pixel_values inside it, or pass vision= to prune()",
            )
        return split_vision_scores(images[VISION_SCORES], layouts)


def spans_of(embeds: Tensor, mask: Tensor | None) -> tuple[list[int], list[int]]:
    """Length of each prompt of a padded batch (batch, width, d), and the column at which it begins.

    Raises:
        PruningError: the mask is not (batch, width), or does not mask one side alone.
    """
    batch, width = embeds.shape[:2]
    if mask is None:
        return [width] * batch, [0] * batch
    if mask.ndim != 2 or mask.shape[1] != width:
        raise PruningError("pruning needs the two-dimensional attention mask of the whole prompt")
    ones = mask.int()
    ends = width - ones.flip(1).argmax(dim=1)
    lengths, starts, last = torch.stack([ones.sum(dim=1), ones.argmax(dim=1), ends]).tolist()
    if any(n == 0 or start + n != end for start, n, end in zip(starts, lengths, last, strict=True)):
        raise PruningError("the attention mask has a gap or an empty row", hint="pad on one side only")
    return lengths, starts
