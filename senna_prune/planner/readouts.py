"""How the model is asked for its plan: generated freely, or chosen by the probabilities of the 20 plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from senna_prune.engine.finite import not_finite
from senna_prune.engine.readout import AnswerTrie, score_answers
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.processing import SennaProcessor
from senna_prune.planner.timing import FirstTokenStreamer, Stopwatch
from senna_prune.task.answers import parse_answer
from senna_prune.task.labels import PLANS, Path, Speed, plan_text
from senna_prune.task.prompts import System, planning_prompt


@dataclass(frozen=True)
class Reading:
    """What the model answers to one frame.

    Attributes:
        speed, path: the plan; None where a freely generated answer names no class or contradicts itself.
        text: the answer in words.
        distribution: probability of each of the 20 plans, normalised over them, in the order of `PLANS`; None with
            readout "generate", which computes none.
        readout_positions: tokens that ran through the decoder after the prompt.
    """

    speed: Speed | None
    path: Path | None
    text: str
    distribution: Mapping[tuple[Speed, Path], float] | None
    readout_positions: int


@dataclass(frozen=True)
class TextReading:
    """What the model answers to a question that does not ask for a plan.

    Attributes:
        text: the answer.
        readout_positions: tokens that ran through the decoder after the prompt.
    """

    text: str
    readout_positions: int


class _FiniteLogits(LogitsProcessor):
    """Records on the device whether all logits were finite, so that the host waits for it once per answer only."""

    def __init__(self) -> None:
        self.all_finite: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        finite = scores.isfinite().all()
        self.all_finite = finite if self.all_finite is None else self.all_finite & finite
        return scores


def generate_texts(
    model: SennaForConditionalGeneration,
    processor: SennaProcessor,
    inputs: Mapping[str, Tensor],
    max_new_tokens: int,
    stopwatch: Stopwatch,
) -> list[TextReading]:
    """Greedy decoding.

    Raises:
        InputError: the model's output is not finite.
    """
    host: Any = model
    width, finite = inputs["input_ids"].shape[1], _FiniteLogits()
    ids = host.generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        logits_processor=LogitsProcessorList([finite]),
        streamer=FirstTokenStreamer(stopwatch),
    )[:, width:]
    if finite.all_finite is not None and not finite.all_finite.item():
        raise not_finite(model.lm_head.weight)
    stopwatch.lap("readout")
    readings = []
    for row in ids.tolist():
        own = until_end(row, model.generation_config.eos_token_id)
        text = processor.tokenizer.decode(own, skip_special_tokens=True).strip()
        # The last token is the model's output alone: it never runs through the decoder.
        readings.append(TextReading(text, len(own) - 1))
    return readings


def named_plan(given: TextReading) -> Reading:
    """The plan that a generated answer names."""
    answer = parse_answer(given.text)
    return Reading(answer.speed, answer.path, given.text, None, given.readout_positions)


def until_end(ids: list[int], ends: int | list[int] | None) -> list[int]:
    """A generated row up to its end: a batch goes on, padded, until its longest answer has ended."""
    known = ends if isinstance(ends, list) else [ends]
    return ids[: next((place for place, token in enumerate(ids, start=1) if token in known), None)]


def score_plans(
    model: SennaForConditionalGeneration,
    answers: AnswerTrie,
    inputs: Mapping[str, Tensor],
    greedy: bool,
    stopwatch: Stopwatch,
) -> list[Reading]:
    """One pass over all plans; the most probable one or, if `greedy`, the one that constrained decoding would spell.

    Args:
        answers: `plan_trie`, on the model's device.
        inputs: of the model, with an attention mask.

    Raises:
        InputError: the model's output is not finite.
    """
    # The layouts of these prompts were read on the host: no placeholder needs to be counted again.
    embeds = model.model.embed(inputs["input_ids"], inputs["image_features"], check_placeholders=False)
    placed = {}
    if len(embeds) > 1:
        # Where nothing is padded there is no mask to look at, and the host need not wait for the device.
        mask = inputs["attention_mask"]
        placed = {"attention_mask": mask, "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)}
    output = model(inputs_embeds=embeds, **placed, use_cache=True, logits_to_keep=1)
    stopwatch.lap("prefill")
    scores = score_answers(model, output.past_key_values, output.logits[:, -1], answers)
    chosen = scores.greedy() if greedy else scores.most_probable()
    rows = scores.distribution.tolist()
    if not scores.finite.item():
        raise not_finite(output.logits)
    stopwatch.lap("readout")
    return [
        Reading(*PLANS[number], plan_text(*PLANS[number]), dict(zip(PLANS, row, strict=True)), len(answers.nodes))
        for number, row in zip(chosen, rows, strict=True)
    ]


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
