"""From an answer's text to a meta-action: total (any text gives a result) and separate from how it is scored."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TypeVar

from senna_prune.task.labels import Path, Speed

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
