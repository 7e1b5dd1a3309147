"""Prompt text of Senna: system sentences, view labels and the planning question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from senna_prune.errors import InputError, one_of
from senna_prune.task.labels import VIEW_LABELS

IMAGE_MARKER = "<image>"


def image_prompt(labels: Sequence[str] = VIEW_LABELS) -> str:
    """Head of every question: the labelled images."""
    return "".join(f"<{label} VIEW>:\n{IMAGE_MARKER}\n" for label in labels)


IMAGE_PROMPT = image_prompt()
"""The head for nuScenes' six cameras."""

System = Literal["llava_v1", "v1"]

SYSTEMS: dict[str, str] = {
    "llava_v1": (
        "A chat between a curious human and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the human's questions."
    ),
    "v1": (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    ),
}
"""System sentences: the released evaluation uses `llava_v1`, although the model was trained on `v1`."""


def plan_question(speed: float, command: str) -> str:
    """The planning question without its head.

    Args:
        speed: ego speed in m/s; shown without its fraction, as the released converter does.
        command: navigation command as the model is to read it.
    """
    return (
        f"Your current speed is {int(speed)} m/s, the navigation command is '{command}', "
        "based on the understanding of the driving scene and the navigation information, "
        "what is your plan for the next three seconds? Please answer your SPEED plan and your PATH plan. "
        "SPEED includes KEEP, ACCELERATE and DECELERATE, and STOP, "
        "PATH includes STRAIGHT, RIGHT_CHANGE, LEFT_CHANGE, RIGHT_TURN, LEFT_TURN. "
        "For example, a correct answer format is like 'KEEP, LEFT_CHANGE'."
    )


def planning_question(speed: float, command: str, labels: Sequence[str] = VIEW_LABELS) -> str:
    """The user turn of the planning task.

    Args:
        speed: ego speed in m/s; shown without its fraction, as the released converter does.
        command: navigation command as the model is to read it; `Planner` checks both.
        labels: of the views.
    """
    return image_prompt(labels) + plan_question(speed, command)


def planning_prompt(question: str, system: System = "llava_v1") -> str:
    """The full prompt of one user turn (any question, not only planning); ends in `ASSISTANT:` without a space.

    Raises:
        InputError: unknown system sentence.
    """
    one_of(system, SYSTEMS, "system", "system sentence", InputError)
    return f"{SYSTEMS[system]} USER: {question} ASSISTANT:"
