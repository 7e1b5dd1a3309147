"""The words of the reference's questions and answers. Byte for byte: the model was trained on them.

The planning question stands in `task.prompts`, where the model finds it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from senna_prune.task.labels import Command, Path, Speed, plan_text

VRU_QUESTION = (
    "Do you see any vulnerable road users within 20 meters ahead of you, "
    "such as cyclists, motorcyclists, or pedestrians?"
)
VRU_NONE = "No, I don't see any vulnerable road users ahead of me, such as bicycles, motorcycles, or pedestrians."

TRAFFIC_LIGHT_QUESTION = (
    "Given the provided forward-facing image from a car's perspective, "
    "identify if there is a traffic light that affects the car's behavior. "
    "Respond with 'Red', 'Green', 'Yellow', or 'None'."
)

SPEED_WORDS = {
    Speed.KEEP: "maintain the current speed",
    Speed.ACCELERATE: "accelerate",
    Speed.DECELERATE: "decelerate",
    Speed.STOP: "stop the car",
}
PATH_WORDS = {
    Path.RIGHT_TURN: "turn right",
    Path.RIGHT_CHANGE: "change to the right lane",
    Path.LEFT_TURN: "turn left",
    Path.LEFT_CHANGE: "change to the left lane",
    Path.STRAIGHT: "go straight",
}


@dataclass(frozen=True, slots=True)
class Question:
    """One question about a keyframe, without the image prompt.

    Attributes:
        answer: reference answer; empty until a captioner gives it.
        index: counts questions of one kind about one keyframe; the view number where every view is asked about.
        speed: shown speed in m/s, None where the question has none.
        command: navigation command, None where the question has none.
    """

    question: str
    answer: str = ""
    index: int = 0
    speed: float | None = None
    command: str | None = None


def explanation_question(speed: float, command: Command, plan: tuple[Speed, Path]) -> str:
    """Asks a captioner for the reason of a decision already taken."""
    decision = SPEED_WORDS[plan[0]] if plan[0] == Speed.STOP else f"{SPEED_WORDS[plan[0]]} and {PATH_WORDS[plan[1]]}"
    return (
        f"You are driving, your current speed is {int(speed)} m/s, and the navigation command is '{command.value}', "
        f"your driving decision for the next three seconds is to {decision}. "
        "Based on the provided image of the driving environment, "
        "explain the most likely reason for this decision in one or two concise sentence."
    )


def description_question(view: str) -> str:
    """Asks a captioner to describe one view, e.g. `front left`."""
    return (
        f"Suppose you are driving, and I'm providing you with the image captured by the car's {view} camera, "
        "generate a description of the driving scene which includes the key factors for driving planning, "
        "including the positions and movements of vehicles and pedestrians; prevailing weather conditions; "
        "time of day, distinguishing between daylight and nighttime; road conditions, "
        "indicating smooth surfaces or the presence of obstacles; and the status of traffic lights "
        "which influence your decision making, specifying whether they are red or green. "
        "The description should be concise, providing an accurate understanding "
        "of the driving environment to facilitate informed decision-making."
    )


def vru_answer(seen: Sequence[tuple[str, float, float]]) -> str:
    """Answer naming vulnerable road users as (class, metres to the right, metres ahead)."""
    if not seen:
        return VRU_NONE
    return "Yes, I see " + ", and ".join(_vru(*one) for one in seen) + "."


def _vru(name: str, right: float, ahead: float) -> str:
    aside = f" and {int(abs(right))} meters to the {'right' if right > 0 else 'left'}" if abs(right) >= 2.0 else ""
    return f"a {name} located {int(abs(ahead))} meters ahead of me{aside}"


def motion_question(view: str, objects: Sequence[tuple[str, float, float, float]]) -> str:
    """Question about the objects of one view as (class, metres to the right, metres ahead, m/s)."""
    described = "".join(f"Object {number}: {_object(*one)}\n" for number, one in enumerate(objects, start=1))
    return (
        "You are driving, I will now provide you with the location and velocity information of dynamic objects "
        f"in the {view} view image. Please predict their future driving behaviors, "
        "which can be divided into SPEED decisions and PATH decisions. "
        "SPEED includes KEEP, ACCELERATE, DECELERATE, and STOP, "
        "while PATH includes STRAIGHT, RIGHT_CHANGE, LEFT_CHANGE, RIGHT_TURN, and LEFT_TURN."
        "I will now provide you with the position and velocity information of the dynamic objects: \n"
        f"{described}"
        f"Please predict the future driving behaviors of these objects based on the {view} view image. "
        "For example, a well-formatted answer should be like:\n"
        "Object 1: KEEP, STRAIGHT\nObject 2: DECELERATE, RIGHT_TURN\nObject 3: ACCELERATE, LEFT_CHANGE\n"
    )


def _object(name: str, right: float, ahead: float, speed: float) -> str:
    along = f"{int(abs(ahead))} meters {'ahead' if ahead >= 0 else 'behind'}"
    aside = f"{int(abs(right))} meters to the {'right' if right >= 0 else 'left'}"
    return f"{name}, {along}, {aside}, speed of {int(speed)} m/s."


def motion_answer(plans: Sequence[tuple[Speed, Path]]) -> str:
    return "".join(f"Object {number}: {plan_text(*plan)}\n" for number, plan in enumerate(plans, start=1))
