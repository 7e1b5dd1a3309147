"""Answers about the scene as typed values: road users, motions, traffic lights, free text. Any text gives a result."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import Enum

from senna_prune.task.answers import Answer, parse_answer


class RoadUser(str, Enum):
    """Kinds of vulnerable road users, as reference answers name them."""

    BICYCLE = "bicycle"
    MOTORCYCLE = "motorcycle"
    PEDESTRIAN = "pedestrian"


class Side(str, Enum):
    """Where a road user is; reference answers name a side from 2 m on."""

    LEFT = "left"
    AHEAD = "ahead"
    RIGHT = "right"


class Light(str, Enum):
    """The traffic light that affects the car."""

    RED = "Red"
    GREEN = "Green"
    YELLOW = "Yellow"
    NONE = "None"


BUCKET = 5
"""Metres ahead that count as one distance."""

FAR = 20
"""Metres from which on distances are one bucket; reference answers name nobody farther away."""


@dataclass(frozen=True, slots=True)
class SeenUser:
    """One road user of an answer.

    Attributes:
        distance: metres ahead, rounded down to 0, 5, 10, 15 or 20; None where the answer gives none.
    """

    kind: RoadUser
    side: Side = Side.AHEAD
    distance: int | None = None


@dataclass(frozen=True, slots=True)
class RoadUserAnswer:
    """What an answer to the road-user question says.

    Attributes:
        present: None where the answer says neither yes nor no, or both.
        seen: in the order of the answer; empty unless `present`.
    """

    present: bool | None
    seen: tuple[SeenUser, ...] = ()

    @property
    def parsed(self) -> bool:
        return self.present is not None


@dataclass(frozen=True, slots=True)
class MotionAnswer:
    """What an answer to the motion question says.

    Attributes:
        objects: meta-action by object number. A half is None where an object's words name no class of it, or several.
    """

    objects: dict[int, Answer]

    @property
    def parsed(self) -> bool:
        return bool(self.objects)


_KINDS = {
    "bicycle": RoadUser.BICYCLE,
    "bicyclist": RoadUser.BICYCLE,
    "cyclist": RoadUser.BICYCLE,
    "motorcycle": RoadUser.MOTORCYCLE,
    "motorcyclist": RoadUser.MOTORCYCLE,
    "pedestrian": RoadUser.PEDESTRIAN,
}
_KIND = re.compile(rf"\b({'|'.join(_KINDS)})s?\b")
# Every repetition is bounded, so that no text takes long.
_METRES = r"(?<!\d)(\d{1,6})(?:\.\d{1,6})? ?(?:m|meters?|metres?)\b"
_AHEAD = re.compile(rf"{_METRES}(?: away)? (?:straight |directly )?(?:ahead|in front)\b")
_SIDE = re.compile(r"\b(?:to|on) (?:the|my|your) (left|right)\b")
_BEGIN = r"(?:^|[.!?>:])\W{0,4}"
"""Before the first word of a sentence."""
_YES = re.compile(rf"{_BEGIN}yes\b|\bi (?:do )?see (?:a|an|one|two|some|several)\b|\bthere (?:is|are) (?:a|an|some)\b")
_NO = re.compile(
    rf"{_BEGIN}(?:no|none)\b|\b(?:don't|do not|can't|cannot) see any\b|\bi see no\b|\bthere (?:is|are) no\b"
)
_OBJECT = re.compile(r"\bobject\W{0,2}(\d{1,4})(?!\d)", re.IGNORECASE)
_LIGHTS = {light: re.compile(rf"\b{light.value}\b", re.IGNORECASE) for light in Light}


def parse_road_users(text: str) -> RoadUserAnswer:
    """Read an answer such as `Yes, I see a pedestrian located 11 meters ahead of me and 3 meters to the left.`

    Every mention of a kind is one road user, a plural too; what follows it up to the next mention says where it is.
    """
    folded = _folded(text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    says_yes, says_no = bool(_YES.search(folded)), bool(_NO.search(folded))
    if says_yes == says_no:
        return RoadUserAnswer(None)
    if says_no:
        return RoadUserAnswer(False)
    return RoadUserAnswer(True, tuple(_seen(found, place) for found, place in _sections(_KIND, folded)))


def _seen(kind: str, place: str) -> SeenUser:
    ahead, side = _AHEAD.search(place), _SIDE.search(place)
    # float: an integer of thousands of digits cannot be read
    metres = int(min(float(ahead.group(1)), FAR)) if ahead else None
    return SeenUser(
        kind=_KINDS[kind],
        side=Side(side.group(1)) if side else Side.AHEAD,
        distance=None if metres is None else metres // BUCKET * BUCKET,
    )


def parse_motions(text: str) -> MotionAnswer:
    """Read an answer such as `Object 1: KEEP, STRAIGHT`, one line an object, in any case and among any other words."""
    objects: dict[int, Answer] = {}
    for found, words in _sections(_OBJECT, _folded(text)):
        number, answer = int(found), parse_answer(words)
        before = objects.get(number, answer)
        objects[number] = Answer(
            answer.speed if answer.speed == before.speed else None, answer.path if answer.path == before.path else None
        )
    return MotionAnswer(objects)


def parse_light(text: str) -> Light | None:
    """Read `Red`, `Green`, `Yellow` or `None` among any other words; None where the text names none of them, or two."""
    found = [light for light, pattern in _LIGHTS.items() if pattern.search(_folded(text))]
    return found[0] if len(found) == 1 else None


def parse_text(text: str) -> str:
    """A description or explanation as text metrics compare it: one line, single spaces, NFKC."""
    return _folded(text)


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _sections(mark: re.Pattern[str], text: str) -> list[tuple[str, str]]:
    """The first group of every match, and the text from there to the next match."""
    parts = mark.split(text)
    return list(zip(parts[1::2], parts[2::2], strict=True))
