"""The hooks of one `prune` context: what they read off a call of the model, and whom they hand its tokens to."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, nn

from senna_prune.devices import read_together
from senna_prune.engine.calls import IGNORED_LABEL, Call, Calls
from senna_prune.engine.decode import DecodeStep, require_dynamic, stop_reading
from senna_prune.engine.decoder import Decoder
from senna_prune.engine.masks import pad_left
from senna_prune.engine.prompt_pass import PromptPass
from senna_prune.engine.trace import PruneTrace
from senna_prune.errors import InputError, PruningError
from senna_prune.hosts.host import VISION_SCORES, Host, one_per_prompt, split_vision_scores
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.base import VISION, Pruner, VisionScores


class PruneContext(Calls):
    """The hooks of one `prune` context. What they remember of a call belongs to its thread and goes with it; what they
    remember of a prompt is carried by its cache."""

    def __init__(
        self,
        decoder: Decoder,
        pruner: Pruner,
        host: Host | None,
        layouts: Sequence[TokenLayout] | None,
        vision: Sequence[VisionScores] | None,
        prompt_lengths: Sequence[int] | None,
        padding_side: Literal["left", "right"] | None,
    ) -> None:
        super().__init__(host, looks=VISION in pruner.needs and vision is None)
        self.decoder, self.pruner = decoder, pruner
        self.given_layouts, self.given_vision, self.prompt_lengths = layouts, vision, prompt_lengths
        self.padding_side = padding_side
        self.trace, self.key = PruneTrace(), uuid.uuid4().hex
        self.inside, self.closed, self.changed = set[int](), False, threading.Condition()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise PruningError("a model cannot be copied or pickled inside a prune context", hint="leave the context first")

    def hooks(self, model: nn.Module) -> Iterator[Any]:
        """Register everything, one at a time; the handles are the caller's to remove."""
        yield model.register_forward_pre_hook(self._call, with_kwargs=True)
        yield model.register_forward_hook(self._called)
        for index, layer in enumerate(self.decoder.layers):
            yield layer.register_forward_pre_hook(partial(self._enter, index), with_kwargs=True)
            attention: Any = layer.self_attn
            for name in ("q_proj", "k_proj"):
                yield getattr(attention, name).register_forward_hook(partial(self._catch, index, name))
        yield self.decoder.module.register_forward_pre_hook(self._begin, with_kwargs=True)
        yield self.decoder.module.register_forward_hook(self._end, always_call=True)

    def close(self) -> None:
        """Wait for calls of other threads that are inside the decoder, and let none begin."""
        stop_reading()
        with self.changed:
            self.closed = True
            self.changed.wait_for(lambda: self.inside <= {threading.get_ident()})

    def _call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model is called: remember what tells the layout and where the prompt ends."""
        call, cache = self.call, kwargs.get("past_key_values")
        call.inputs = ({"input_ids": args[0]} if args else {}) | kwargs | {"generated": call.generated}
        call.generated, call.decoded, call.columns = 0, False, None
        call.images = (kwargs.get("mm_encoder_outputs") or {}).get("image")
        if cache is not None and cache.get_seq_length() > 0 and self._shows_images(call):
            raise PruningError(
                "images that follow a prompt which was read before are not pruned",
                hint="read the whole prompt in one pass, without its old cache",
            )

    def _shows_images(self, call: Call) -> bool:
        """Whether the call brings images or their placeholders."""
        inputs = call.inputs
        if call.images is not None or inputs.get("pixel_values") is not None:
            return True
        ids = inputs.get("input_ids")
        # What was generated or drafted is no image, whatever it is; looking at it would make the host wait.
        if self.host is None or ids is None or ids.shape[1] == 1 or inputs["generated"] or "token_tree" in inputs:
            return False
        return bool((ids == self.host.model.config.image_token_id).any())

    def _called(self, module: nn.Module, args: Any, output: Any) -> None:
        decoded, self.call.decoded = self.call.decoded, None
        if decoded is False:
            raise PruningError(
                f"{type(module).__name__} ran, but not the decoder that was to be pruned",
                hint="do not replace parts of a model, or run compiled code, inside a prune context",
            )

    def _begin(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The decoder is called, with prompts or with tokens that follow them."""
        call = self.call
        inputs, images, call.inputs, call.images, call.running = call.inputs, call.images, {}, None, None
        call.decoded = True
        with self.changed:
            if self.closed:
                raise PruningError("the prune context was left while the model ran", hint="wait for it inside")
            self.inside.add(threading.get_ident())
        tree, cache, mask = kwargs.pop("token_tree", None), kwargs.get("past_key_values"), kwargs.get("attention_mask")
        tokens = kwargs.get("inputs_embeds")
        if tokens is None:
            tokens = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        if cache is not None:
            require_dynamic(cache)
        if cache is not None and cache.get_seq_length() > 0:
            batch, queries = tokens.shape[:2]
            call.running = DecodeStep(self.decoder, self.key, cache, tree, batch, queries, mask)
            return args, kwargs
        embeds = tokens if tokens.is_floating_point() else module.get_input_embeddings()(tokens)
        lengths, starts, rows = self._prompts(embeds, mask, inputs.get("input_ids"))
        layouts = self._layouts(rows, lengths, images)
        layouts = self._without_answers(layouts, inputs, starts, embeds.shape[1])
        call.labelled = inputs.get("labels") is not None
        call.running = PromptPass(
            self.decoder,
            self.pruner,
            layouts,
            starts,
            self._vision(layouts, images),
            embeds,
            kwargs.get("position_ids"),
            0 if self.host is None else self.host.first_cut,
        )
        return args, kwargs

    def _prompts(
        self, embeds: Tensor, mask: Tensor | None, ids: Tensor | None
    ) -> tuple[list[int], list[int], list[Tensor]]:
        """Length and first column of each prompt, and its ids where they tell the layout: at most one read."""
        (batch, width), given = embeds.shape[:2], self.given_layouts
        if given is not None and self.padding_side is not None:
            lengths = [layout.length for layout in one_per_prompt(given, batch, "layouts")]
            return lengths, [width - n if self.padding_side == "left" else 0 for n in lengths], []
        read = iter(read_together([one for one in (mask, ids if given is None else None) if one is not None]))
        lengths, starts = spans_of(embeds, None if mask is None else next(read))
        return lengths, starts, [r[s : s + n] for r, s, n in zip(next(read, ()), starts, lengths, strict=False)]

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
        kept, labels, lengths = inputs.get("logits_to_keep", 0), inputs.get("labels"), self.prompt_lengths
        if isinstance(kept, Tensor):
            raise PruningError("columns of logits move where tokens are removed", where="logits_to_keep", hint="count")
        if lengths is not None:
            ends = one_per_prompt(lengths, len(layouts), "prompt_lengths")
        elif labels is not None:
            if labels.shape != (len(layouts), width):
                raise InputError(f"{tuple(labels.shape)} labels were given for {(len(layouts), width)} tokens")
            # Without a label the first one is the column behind the last.
            first = nn.functional.pad(labels != IGNORED_LABEL, (0, 1), value=True).int().argmax(dim=1).tolist()
            ends = [column - start for column, start in zip(first, starts, strict=True)]
        elif kept > 1 or inputs.get("generated"):
            ends = [width - max(kept - 1, inputs.get("generated", 0)) - start for start in starts]
        else:
            return layouts
        shorter = []
        for layout, end in zip(layouts, ends, strict=True):
            if layout.views and end < max(span.stop for span in layout.views.values()):
                raise InputError(
                    f"the prompt would end at token {end}, before its last image does",
                    where="labels, logits_to_keep or prompt_lengths",
                    hint="give prompt_lengths= to prune(), or -100 as labels of the prompt",
                )
            shorter.append(replace(layout, answer=min(max(layout.length - end, 0), layout.length)))
        return shorter

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

    def _enter(self, index: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.running is None:
            return None
        if args:
            hidden, kwargs = self.running.enter(index, args[0], kwargs)
            return (hidden, *args[1:]), kwargs
        hidden, kwargs = self.running.enter(index, kwargs["hidden_states"], kwargs)
        return args, kwargs | {"hidden_states": hidden}

    def _catch(self, index: int, name: str, module: nn.Module, args: Any, output: Tensor) -> None:
        if isinstance(self.running, PromptPass) and self.running.capture is not None:
            self.running.capture.catch(index, name, output)

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        """The decoder is done, or an exception left it; `output` is then None."""
        running, self.running = self.running, None
        stop_reading()
        with self.changed:
            self.inside.discard(threading.get_ident())
            self.changed.notify_all()
        if isinstance(running, PromptPass) and output is not None:
            prompt = running.finish(self.key)
            if self.call.labelled and prompt.cut:
                self.call.columns = pad_left([sample.state.columns() + 1 for sample in running.samples]) - 1
            self.trace.samples = [sample.trace for sample in running.samples]
            self.trace.cache_lengths = [list(shape.lengths) for shape in prompt.layers]


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
