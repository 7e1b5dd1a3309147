"""Frames in, plans out: this process encodes and prunes the images, an engine runs the decoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from senna_prune.errors import ServingError
from senna_prune.planner.plan import Frame, VisualTokens, checked_question
from senna_prune.planner.planner import Planner
from senna_prune.serving.engines import PromptEngine
from senna_prune.task.answers import parse_answer
from senna_prune.task.labels import PLANS, Path, Speed, plan_text


@dataclass(frozen=True)
class ServedPlan:
    """A plan that an engine decided.

    Attributes:
        speed, path: the plan; None where a free answer names no class.
        text: the engine's answer.
        tokens: the pruned prompt that it read.
    """

    speed: Speed | None
    path: Path | None
    text: str
    tokens: VisualTokens


def served_plans(
    planner: Planner, engine: PromptEngine, frames: Iterable[Frame], guided: bool = True, max_tokens: int = 32
) -> Iterator[ServedPlan]:
    """Plans in the order of the frames, which are read only as far as the engine takes prompts.

    Args:
        planner: encodes and prunes; its method must cut before the decoder, at positions "repacked".
        engine: runs the decoder.
        frames: images, speed and command of each moment.
        guided: the engine chooses among the 20 plans; otherwise it answers freely.
        max_tokens: longest answer.

    Raises:
        ServingError: the planner keeps original positions, which no engine does; or as `PromptEngine.answers`.
        PruningError: its method cuts inside the decoder.
    """
    if planner.pruner.positions != "repacked" and planner.pruner.name != "none":
        raise ServingError(
            "engines number positions without gaps, this planner keeps the original ones",
            where="option positions",
            hint="build the planner with positions 'repacked'",
        )
    sent: deque[VisualTokens] = deque()

    def prompts() -> Iterator[Tensor]:
        for frame in frames:
            question = checked_question(frame.speed, frame.command, planner.labels)
            sent.append(planner.visual_tokens(frame.images, question))
            yield sent[-1].prompt

    # With the space behind `ASSISTANT:`, as the answers were learnt; without it other tokens spell them.
    choices = [f" {plan_text(*plan)}" for plan in PLANS] if guided else None
    for text in engine.answers(prompts(), choices, max_tokens):
        answer = parse_answer(text)
        yield ServedPlan(answer.speed, answer.path, text.strip(), sent.popleft())
