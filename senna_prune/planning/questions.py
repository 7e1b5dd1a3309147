"""The planning question, byte for byte as the model was trained on it. Imports nothing heavy."""

from __future__ import annotations

from senna_prune.planning.labels import VIEW_LABELS

IMAGE_MARKER = "<image>"

IMAGE_PROMPT = "".join(f"<{label} VIEW>:\n{IMAGE_MARKER}\n" for label in VIEW_LABELS)
"""Head of every question: the six labelled images."""


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
