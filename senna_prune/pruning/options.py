"""Options of a method: fields with a default and a sentence; one check of names, types and sizes for all of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from senna_prune.errors import PruningError, brief, one_of

T = TypeVar("T")
BOUND = ("name", "budget", "num_layers", "num_heads")
"""Fields of a method that are no options: `Method.bind` sets them."""
LARGEST = 1e6
"""Largest size of a number: a weight times a score must stay finite in float32, and no option needs more."""


def option(default: T, text: str, least: int | None = None) -> T:
    """An option of a method: a dataclass field with a default, a sentence for `senna-prune eval --methods`, and the
    least number it takes."""
    return field(default=default, metadata={"text": text, "least": least})


@dataclass(frozen=True)
class Option:
    """One option as its method documents it.

    Attributes:
        name, default: as in the method's dataclass.
        values: the values it takes, in words.
        text: its sentence; empty if there is none.
    """

    name: str
    default: Any
    values: str
    text: str


def options_of(kind: type) -> tuple[Option, ...]:
    """Options of a method's dataclass; those of its base classes come after its own."""
    hints, level, texts = get_type_hints(kind), dict[str, int](), dict[str, str]()
    for number, base in reversed(list(enumerate(kind.__mro__))):
        level = dict.fromkeys(inspect.get_annotations(base), number) | level
        texts |= {f.name: f.metadata["text"] for f in vars(base).get("__dataclass_fields__", {}).values() if f.metadata}
    found = [Option(f.name, f.default, _spell(hints[f.name]), texts.get(f.name, "")) for f in _fields(kind)]
    return tuple(sorted(found, key=lambda one: level[one.name]))


def checked_options(name: str, kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with lists made tuples.

    Raises:
        PruningError: an option is unknown, or its value has another type or is no finite number of ordinary size.
    """
    hints = get_type_hints(kind)
    known = [one.name for one in _fields(kind)]
    checked = {}
    for key, value in options.items():
        one_of(key, known, f"method {name}", "option", PruningError)
        value = tuple(value) if isinstance(value, list) else value
        expected = _spell(hints[key])
        hint = f"numbers are finite and at most {LARGEST:g} in size" if "a number" in expected else "correct it"
        if not _fits(value, hints[key]):
            raise PruningError(f"{brief(value)} is not {expected}", where=f"method {name}, option {key}", hint=hint)
        checked[key] = value
    return checked


def _fields(kind: Any) -> Iterator[Field[Any]]:
    """Fields that are options; `layer` is one where a method is published with a layer to cut before."""
    hidden = BOUND if getattr(kind, "published_layer", 0) is not None else (*BOUND, "layer")
    return (one for one in fields(kind) if one.init and one.name not in hidden)


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
    names = {type(None): "null", float: "a number", int: "a whole number"}
    return names[hint] if hint in names else getattr(hint, "__name__", str(hint))
