"""Answers' texts as typed values, for every kind of question: any text gives a result, and scoring is elsewhere."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TypeVar

from senna_prune.task.labels import PLAN, Path, Speed

Label = TypeVar("Label", bound=Enum)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer says. A half is None where the text names no class of it, or two that contradict each other."""

    speed: Speed | None
    path: Path | None

    @property
    def parsed(self) -> bool:
        return self.speed is not None and self.path is not None


def _pattern(label: Enum) -> re.Pattern[str]:
    # Whole words only, so that KEEP is not found in UPKEEP; LEFT_TURN is also LEFT TURN, LEFT-TURN and Left turn.
    words = label.value.split("_")
    return re.compile(r"(?<![^\W_])" + r"[\s_\-]*".join(words) + r"(?![^\W_])")


_SPEEDS = {speed: _pattern(speed) for speed in Speed}
_PATHS = {path: _pattern(path) for path in Path}


@lru_cache(maxsize=4096)  # a run repeats few answers many times
def parse_answer(text: str) -> Answer:
    """Read speed and path from an answer such as `KEEP, LEFT_CHANGE`, in any case and among any other words.

    A class may be repeated. `KEEP, LEFT_TURN, STRAIGHT` names no path, as no car can drive both; the reference metric
    counts any mention of the true class as right.
    """
    folded = unicodedata.normalize("NFKC", text).upper()
    return Answer(_only(folded, _SPEEDS), _only(folded, _PATHS))


def _only(text: str, patterns: dict[Label, re.Pattern[str]]) -> Label | None:
    found = [label for label, pattern in patterns.items() if pattern.search(text)]
    return found[0] if len(found) == 1 else None


# The scene


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


_KINDS = {kind.value: kind for kind in RoadUser} | {
    **dict.fromkeys(("bicyclist", "cyclist"), RoadUser.BICYCLE),
    "motorcyclist": RoadUser.MOTORCYCLE,
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
    folded = parse_text(text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
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
    for found, words in _sections(_OBJECT, parse_text(text)):
        number, answer = int(found), parse_answer(words)
        before = objects.get(number, answer)
        objects[number] = Answer(
            answer.speed if answer.speed == before.speed else None, answer.path if answer.path == before.path else None
        )
    return MotionAnswer(objects)


def parse_light(text: str) -> Light | None:
    """Read `Red`, `Green`, `Yellow` or `None` among any other words; None where the text names none of them, or two."""
    return _only(parse_text(text), _LIGHTS)


def parse_text(text: str) -> str:
    """A description or explanation as text metrics compare it: one line, single spaces, NFKC."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _sections(mark: re.Pattern[str], text: str) -> list[tuple[str, str]]:
    """The first group of every match, and the text from there to the next match."""
    parts = mark.split(text)
    return list(zip(parts[1::2], parts[2::2], strict=True))


# What a reference answer must say


def _names_every_plan(text: str) -> bool:
    motions = parse_motions(text)
    return motions.parsed and all(motion.parsed for motion in motions.objects.values())


_NEEDED: dict[str, tuple[Callable[[str], bool], str]] = {
    PLAN: (lambda text: parse_answer(text).parsed, "is no plan"),
    "vru": (lambda text: parse_road_users(text).parsed, "says neither yes nor no"),
    "motion": (_names_every_plan, "does not name a speed and a path for each object"),
    "traffic_light": (lambda text: parse_light(text) is not None, "names no traffic light, and not 'None'"),
}


def fault_of(kind: str, truth: str) -> str | None:
    """What keeps a text from being the reference answer to a question of this kind; None where nothing does.

    Descriptions and explanations are free text: only an empty one is refused.
    """
    holds, fault = _NEEDED.get(kind, (lambda text: bool(text.strip()), "is empty"))
    return None if holds(truth) else fault
