"""JSON that somebody may have damaged, read into dataclasses: every value is checked against its field's type."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from senna_prune.errors import RunError, SennaPruneError

T = TypeVar("T")
Reader = Callable[[Any], Any]

WHOLE_NUMBERS = 2**63
"""Bound of the whole numbers that are accepted, either sign."""


class _Mismatch(Exception):
    """A value that is not what its field needs; `path` is completed on the way out."""

    def __init__(self, problem: str, path: str = "") -> None:
        self.problem, self.path = problem, path
        super().__init__(problem)


def from_json(kind: type[T], value: Any, where: object, hint: str) -> T:
    """A decoded JSON object as a dataclass, or as another type that a field may have.

    Fields may be texts, whole and real numbers, booleans, other dataclasses, `Any`, or tuples, lists and mappings of
    these; each may also be optional.

    Args:
        kind: the dataclass.
        value: what `json` returned.
        where: file or line, for messages.
        hint: what the user can do.

    Raises:
        RunError: a field is missing, unknown or of another type, a number is not finite, or the dataclass refuses its
            values.
    """
    try:
        return cast(T, _reader(cast(Any, kind))(value))
    except _Mismatch as error:
        problem = f"{error.path} {error.problem}" if error.path else f"it {error.problem}"
        raise RunError(problem, where=where, hint=hint) from error
    except SennaPruneError as error:
        raise RunError(str(error), where=where, hint=hint) from error


@cache
def _reader(kind: Any) -> Reader:
    """A function that returns a JSON value as `kind`; made once per type, as a run has many lines."""
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass_reader(kind)
    if origin is UnionType:
        (inner,) = (_reader(argument) for argument in arguments if argument is not type(None))
        return lambda value: None if value is None else inner(value)
    if origin in (tuple, list):
        return _list_reader(origin, arguments[0])
    if origin in (dict, Mapping):
        inner = _reader(arguments[1])
        return lambda value: {
            _reader(str)(name): _within(inner, entry, str(name))
            for name, entry in _of(dict, value, "an object").items()
        }
    return _SCALARS[kind]


def _dataclass_reader(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}
    required = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}

    def read(value: Any) -> Any:
        given = _of(dict, value, "an object")
        if missing := sorted(required - given.keys()):
            raise _Mismatch("is missing", missing[0])
        if unknown := sorted(given.keys() - readers.keys()):
            raise _Mismatch("is no known field", _brief(unknown[0]))
        return kind(**{name: _within(readers[name], entry, name) for name, entry in given.items()})

    return read


def _list_reader(made: Callable[[Any], Any], item: Any) -> Reader:
    inner = _reader(item)

    def read(value: Any) -> Any:
        entries = _of(list, value, "a list")
        if item is int and set(map(type, entries)) <= {int} and (not entries or max(map(abs, entries)) < WHOLE_NUMBERS):
            return made(entries)  # the short way, for the many token counts of a trace
        return made([_within(inner, entry, f"[{number}]") for number, entry in enumerate(entries)])

    return read


def _within(reader: Reader, value: Any, name: str) -> Any:
    try:
        return reader(value)
    except _Mismatch as error:
        error.path = f"{name}{'' if error.path[:1] in ('', '[') else '.'}{error.path}"
        raise


def _of(kind: type, value: Any, wanted: str) -> Any:
    if not isinstance(value, kind):
        raise _Mismatch(f"is {_brief(value)}, not {wanted}")
    return value


def _text(value: Any) -> str:
    text: str = _of(str, value, "a text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _Mismatch(f"is {_brief(value)}, which no file can hold") from None
    return text


def _whole(value: Any) -> int:
    if type(value) is not int or abs(value) >= WHOLE_NUMBERS:
        raise _Mismatch(f"is {_brief(value)}, not a whole number")
    return value


def _real(value: Any) -> float:
    if type(value) not in (int, float) or abs(value) >= 1e300 or not math.isfinite(value):
        raise _Mismatch(f"is {_brief(value)}, not a finite number")
    return cast(float, value)


_SCALARS: dict[Any, Reader] = {
    Any: lambda value: value,
    str: _text,
    int: _whole,
    float: _real,
    bool: lambda value: _of(bool, value, "true or false"),
}


def _brief(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
