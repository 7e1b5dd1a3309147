"""Options of a method: one check of names, types and sizes for all of them, and their documentation."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from senna_prune.errors import PruningError, nearest_of

LARGEST = 1e6
"""Largest size of a number: a weight times a score must stay finite in float32, and no option needs more."""


@dataclass(frozen=True)
class Option:
    """One option as its method documents it.

    Attributes:
        name, default: as in the method's dataclass.
        values: the values it takes, in words.
        text: its entry under "Attributes" in the docstring; empty if there is none.
    """

    name: str
    default: Any
    values: str
    text: str


def options_of(kind: type) -> tuple[Option, ...]:
    """Options of a method's dataclass; those of its base classes come after its own."""
    hints, texts, level = get_type_hints(kind), dict[str, str](), dict[str, int]()
    for number, base in reversed(list(enumerate(kind.__mro__))):
        texts |= _attributes(base.__doc__ or "")
        level = dict.fromkeys(inspect.get_annotations(base), number) | level
    found = [
        Option(field.name, field.default, _spell(hints[field.name]), texts.get(field.name, ""))
        for field in fields(kind)
    ]
    return tuple(sorted(found, key=lambda option: level[option.name]))


def checked_options(name: str, kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with lists made tuples.

    Raises:
        PruningError: an option is unknown, or its value has another type or is no finite number of ordinary size.
    """
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    checked = {}
    for option, value in options.items():
        if option not in known:
            raise PruningError(f"unknown option {option!r}", where=f"method {name}", hint=nearest_of(option, known))
        value = tuple(value) if isinstance(value, list) else value
        if not _fits(value, hints[option]):
            expected = _spell(hints[option])
            hint = f"numbers are finite and at most {LARGEST:g} in size" if "a number" in expected else "correct it"
            raise PruningError(f"{shown(value)} is not {expected}", where=f"method {name}, option {option}", hint=hint)
        checked[option] = value
    return checked


def shown(value: object) -> str:
    """A value in a message: short, whatever it is."""
    if isinstance(value, int) and abs(value) > 2**63:
        return f"a number of {value.bit_length()} bits"  # Python refuses to print thousands of digits
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if _is_union(hint):
        return any(_fits(value, argument) for argument in arguments)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, hint)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) is Union or type(hint).__name__ == "UnionType"


def _spell(hint: Any) -> str:
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if get_origin(hint) is tuple:
        return f"a list, each {_spell(arguments[0])}"
    if _is_union(hint):
        return " or ".join(map(_spell, arguments))
    if hint is type(None):
        return "null"
    if hint is float:
        return "a number"
    return "a whole number" if hint is int else getattr(hint, "__name__", str(hint))


def _attributes(docstring: str) -> dict[str, str]:
    """Entries of a docstring's section "Attributes" by name; an entry `a, b: text` stands for both names."""
    _, _, section = inspect.cleandoc(docstring).partition("Attributes:\n")
    entries = re.split(r"\n(?=    \w)", f"\n{section}")
    found: dict[str, str] = {}
    for entry in entries:
        names, colon, text = entry.partition(":")
        if colon:
            found |= dict.fromkeys(re.split(r",\s*", names.strip()), " ".join(text.split()))
    return found
