"""Errors a user can cause and correct, how their messages quote values, and the checks of single values.

Each says in one line what is wrong, where, and what to do about it. The tools print that line and exit with status 2;
anything that is not a `SennaPruneError` is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager


def nearest_of(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not known: the known one it is most like, if any is, and all there are."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}? Known: {', '.join(names)}" if near else f"choose from {', '.join(names)}"


def brief(value: object, most: int = 60) -> str:
    """A value as a message quotes it, `most` characters long, whatever it is."""
    if isinstance(value, int) and abs(value) > 2**63:
        return f"a number of {value.bit_length()} bits"  # Python refuses to print thousands of digits
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first names of a list, and how many more there are."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def one_line(error: object) -> str:
    """The beginning of an error's message, or its type where it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__


class SennaPruneError(Exception):
    """Base of all user-facing errors.

    Args:
        problem: what is wrong, one sentence without a full stop.
        where: file, line, table, token, camera or option at fault.
        hint: what the user can do about it, in the imperative.
    """

    def __init__(self, problem: str, *, where: object = None, hint: str | None = None) -> None:
        self.problem, self.where, self.hint = problem, where, hint
        super().__init__(problem)

    def __str__(self) -> str:
        text = self.problem
        if self.where is not None:
            text = f"{self.where}: {text}"
        if self.hint:
            text = f"{text}. {self.hint[0].upper()}{self.hint[1:]}"
        # A path may hold bytes that are no UTF-8; Python keeps them as surrogates, which cannot be printed.
        return " ".join(text.split()).encode(errors="backslashreplace").decode()


class FileError(SennaPruneError, ValueError):
    """A file or folder cannot be read or written, or does not hold what it should."""


class ConfigError(SennaPruneError, ValueError):
    """A configuration file or `key=value` override is wrong."""


class TableError(SennaPruneError, ValueError):
    """A nuScenes table is missing, broken or inconsistent."""


class SampleError(SennaPruneError, ValueError):
    """A planning set or one of its lines is unusable."""


class ImageError(SennaPruneError, ValueError):
    """An image is missing, unreadable or not a camera image."""


class InputError(SennaPruneError, ValueError):
    """An argument of the Python interface (speed, command, cameras, layout) is wrong."""


class CheckpointError(SennaPruneError, ValueError):
    """A checkpoint cannot be opened, or its tensors do not fit the model."""


class PruningError(SennaPruneError, ValueError):
    """A pruning method, option or budget is wrong or out of reach."""


class RunError(SennaPruneError, RuntimeError):
    """An evaluation run cannot start, resume or be read."""


class ServingError(SennaPruneError, RuntimeError):
    """A serving engine is not there, refuses a prompt or does not answer in time."""


def foreign_errors() -> tuple[type[Exception], ...]:
    """What transformers, tokenizers, PIL and torch raise over a bad input: they check little, so it is nearly every
    built-in error. A function, as the libraries whose errors it names would slow the start of the command line."""
    from pickle import UnpicklingError
    from struct import error as struct_error
    from zipfile import BadZipFile
    from zlib import error as zlib_error

    from huggingface_hub.errors import StrictDataclassError
    from jinja2 import TemplateError
    from PIL.Image import DecompressionBombError
    from safetensors import SafetensorError

    python = (ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, MemoryError)
    input_output = (OSError, RuntimeError, SyntaxError, TypeError, ValueError)
    files = (BadZipFile, DecompressionBombError, UnpicklingError, struct_error, zlib_error)
    return (*python, *input_output, *files, SafetensorError, StrictDataclassError, TemplateError)


class as_error(AbstractContextManager[None]):
    """Turn an error that another library raises over what a user brought into one line.

    Args:
        kind, problem, where: of the line, which ends with what the library says; `where` is the file, sample, document
            or option at fault.
        only: the errors to turn; default all `foreign_errors`, and bare exceptions: tokenizers raises nothing else.

    Raises:
        kind: instead of it.
    """

    def __init__(
        self, kind: type[SennaPruneError], problem: str, where: object, only: tuple[type[Exception], ...] = ()
    ) -> None:
        self.kind, self.problem, self.where, self.only = kind, problem, where, only

    def __exit__(self, found: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, SennaPruneError):
            return
        if isinstance(error, self.only or foreign_errors()) or (found is Exception and not self.only):
            raise self.kind(f"{self.problem} ({one_line(error)})", where=self.where) from error


# Checks of single values


def require(
    holds: bool,
    where: str,
    value: object,
    wanted: str,
    error: type[SennaPruneError] = InputError,
    hint: str | None = None,
) -> None:
    """Refuse a value that is not what is wanted, unless `holds`; of what is no text or number the type is told."""
    if not holds:
        shown = brief(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
        raise error(f"{shown} is not {wanted}", where=where, hint=hint)


def one_of(
    value: object,
    allowed: Iterable[str],
    where: object,
    what: str = "value",
    error: type[SennaPruneError] = ConfigError,
) -> None:
    """Refuse a value that is not in a closed list, naming the nearest that is."""
    names = list(allowed)
    if not isinstance(value, str) or value not in names:
        raise error(f"unknown {what} {brief(value)}", where=where, hint=nearest_of(str(value), names))


def require_between(key: str, value: int | None, low: int, high: int | None) -> None:
    """Refuse a number outside its bounds, which are allowed themselves; None means "not set" or "no bound"."""
    if value is not None and value < low:
        raise ConfigError(f"{value} is less than {low}", where=key)
    if value is not None and high is not None and value > high:
        raise ConfigError(f"{value} is more than {high}", where=key)


def require_name(name: str, key: str) -> None:
    """Refuse a name that could not be part of a file's name, or would lead to another folder."""
    if not name or not name.isprintable() or set(name) & {"/", "\\"} or len(os.fsencode(name)) > 200:
        hint = "use 1 to 200 printable characters without / and \\"
        raise ConfigError(f"{brief(name, 80)} cannot name a run", where=key, hint=hint)


def require_shares(retentions: Iterable[float], key: str) -> None:
    """Refuse a retention outside (0, 1]."""
    for retention in retentions:
        if not 0 < retention <= 1:
            raise ConfigError(f"{retention} is no share of tokens", where=key, hint="use (0, 1]")
