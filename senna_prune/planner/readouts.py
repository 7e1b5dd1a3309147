"""How the model is asked for its plan: generated freely, or chosen by the probabilities of the 20 plans.

Each function queues the work and returns tensors, with what makes answers of them: the host reads all of a decision,
its trace included, in one copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from senna_prune.engine.decoder import attention_mask, find_decoder, not_finite
from senna_prune.engine.prefill import PromptPass
from senna_prune.engine.readout import AnswerScores, AnswerTrie, score_answers
from senna_prune.errors import PruningError
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.processing import SennaProcessor
from senna_prune.model.token_layout import TokenLayout
from senna_prune.planner.encode import Stopwatch
from senna_prune.planner.plan import VisualTokens
from senna_prune.pruning import Pruner
from senna_prune.pruning.base import VisionScores
from senna_prune.task.answers import parse_answer
from senna_prune.task.labels import PLANS, plan_text
from senna_prune.task.prompts import System, planning_prompt

Fields = dict[str, Any]
"""Of a `Reply`, or of a `Plan`."""
Readout = tuple[list[Tensor], Callable[[list[Tensor]], list[Fields]]]
"""Tensors that the host is to read, and what makes the fields of each answer of them."""


class _FirstLogits(LogitsProcessor):
    """Ends the stage `prefill` at the first logits, and notes on the device whether all logits were finite."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self.stopwatch = stopwatch
        self.all_finite: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        finite = scores.isfinite().all()
        if self.all_finite is None:
            self.stopwatch.lap("prefill")
        self.all_finite = finite if self.all_finite is None else self.all_finite & finite
        return scores


def generate_texts(
    model: SennaForConditionalGeneration,
    processor: SennaProcessor,
    max_new_tokens: int,
    plans: bool,
    inputs: Mapping[str, Any],
    stopwatch: Stopwatch,
) -> Readout:
    """Greedy decoding; `plans`: the texts name plans.

    Raises:
        InputError: the model's output is not finite (when the answers are made).
    """
    host: Any = model
    first = _FirstLogits(stopwatch)
    ids = host.generate(
        inputs_embeds=embedded(model, inputs),
        attention_mask=inputs["attention_mask"],
        max_new_tokens=max_new_tokens,
        do_sample=False,
        logits_processor=LogitsProcessorList([first]),
    )
    assert first.all_finite is not None

    def answers(read: list[Tensor]) -> list[Fields]:
        if not read[1]:
            raise not_finite(model.lm_head.weight)
        found = []
        for row in read[0].tolist():
            own = until_end(row, model.generation_config.eos_token_id)
            text = processor.tokenizer.decode(own, skip_special_tokens=True).strip()
            named = parse_answer(text)
            plan = {"speed": named.speed, "path": named.path, "distribution": None} if plans else {}
            # The last token is the model's output alone: it never runs through the decoder.
            found.append({"text": text, "readout_positions": len(own) - 1, **plan})
        return found

    return [ids, first.all_finite], answers


def embedded(model: SennaForConditionalGeneration, inputs: Mapping[str, Any]) -> Tensor:
    """Decoder inputs. The layouts of the prompts were read on the host: no placeholder needs to be counted again."""
    return model.model.embed(inputs["input_ids"], inputs["image_features"], check_placeholders=False)


def until_end(ids: list[int], ends: int | list[int] | None) -> list[int]:
    """A generated row up to its end: a batch goes on, padded, until its longest answer has ended."""
    known = ends if isinstance(ends, list) else [ends]
    return ids[: next((place for place, token in enumerate(ids, start=1) if token in known), None)]


def score_plans(
    model: SennaForConditionalGeneration,
    trie: AnswerTrie,
    greedy: bool,
    inputs: Mapping[str, Any],
    stopwatch: Stopwatch,
) -> Readout:
    """One pass over all plans; the most probable one or, if `greedy`, the one that constrained decoding would spell.

    Args:
        trie: `plan_trie`.
        inputs: of the model, with an attention mask, and `spans`: first and last + 1 column of each prompt.

    Raises:
        InputError: the model's output is not finite (when the answers are made).
    """
    embeds, spans = embedded(model, inputs), inputs["spans"]
    placed: dict[str, Any] = {}
    if len(embeds) > 1:
        # Of a mask of two dimensions transformers asks the device whether it masks anything.
        decoder, width = find_decoder(model), embeds.shape[1]
        form: dict[str, Any] = {"implementation": decoder.attention, "dtype": embeds.dtype, "device": embeds.device}
        placed = {
            "attention_mask": attention_mask(spans, width, width, **form),
            "position_ids": (inputs["attention_mask"].cumsum(dim=1) - 1).clamp(min=0),
        }
    output = model(inputs_embeds=embeds, **placed, use_cache=True, logits_to_keep=1)
    stopwatch.lap("prefill")
    scores = score_answers(model, output.past_key_values, output.logits[:, -1], trie)

    def answers(read: list[Tensor]) -> list[Fields]:
        known = AnswerScores(trie, *read)
        if not known.finite:
            raise not_finite(output.logits)
        chosen = known.greedy() if greedy else known.most_probable()
        found = []
        for number, row in zip(chosen, known.distribution.tolist(), strict=True):
            (speed, path), distribution = PLANS[number], dict(zip(PLANS, row, strict=True))
            fields = {"text": plan_text(speed, path), "speed": speed, "path": path, "distribution": distribution}
            found.append({**fields, "readout_positions": len(trie.nodes)})
        return found

    return [scores.steps, scores.finite], answers


def plan_trie(processor: SennaProcessor, system: System = "llava_v1") -> AnswerTrie:
    """The 20 plans as they are tokenised behind a prompt."""
    prompt = planning_prompt("", system)
    head = processor.tokenizer(prompt, add_special_tokens=False).input_ids
    answers = []
    for plan in PLANS:
        ids = processor.tokenizer(f"{prompt} {plan_text(*plan)}", add_special_tokens=False).input_ids
        assert ids[: len(head)] == head, "an answer must not change the tokens of its prompt"
        answers.append(ids[len(head) :])
    return AnswerTrie.build(answers)


@torch.no_grad()
def cut_before_decoder(
    model: SennaForConditionalGeneration,
    pruner: Pruner,
    embeds: Tensor,
    layout: TokenLayout,
    vision: VisionScores | None,
    cameras: Sequence[str],
) -> VisualTokens:
    """Make a method's cut without running the decoder.

    Args:
        model: whose prompt it is.
        pruner: a method that acts before the decoder.
        embeds: the unpruned prompt, shape (S, D).
        layout: where its visual tokens stand.
        vision: vision scores, if the method needs them.
        cameras: channel of each view.

    Raises:
        PruningError: the method cuts inside the decoder, or gets no vision scores that it needs.
    """
    decoder = find_decoder(model)
    counts = pruner.plan(layout.num_visual, decoder.num_layers, text=layout.length - layout.num_visual)
    if len(set(counts.tokens[:-1])) > 1:
        raise PruningError(
            f"method {pruner.name!r} cuts tokens inside the decoder: no set of tokens stands for all layers",
            hint="take one that acts before the decoder, see --methods",
        )
    running = PromptPass(decoder, pruner, [layout], [0], None if vision is None else [vision], embeds[None], None)
    tables = decoder.rotary(embeds, torch.arange(layout.length, device=embeds.device)[None])
    (prompt,), _ = running.enter(0, embeds[None], {"position_embeddings": tables})
    state = running.samples[0].state
    repacked = pruner.positions == "repacked"
    positions = torch.arange(state.length, device=embeds.device) if repacked else state.columns()
    names = tuple(cameras[view] for view in state.views.tolist())
    return VisualTokens(prompt, positions, state.visual_slots, names, state.origin)
