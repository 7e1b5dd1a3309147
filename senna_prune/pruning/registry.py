"""Finds a method by its name: the name of its file in `methods/`, or of an entry point of an installed package.

A method is one file that defines one subclass of `Method`. A file in `methods/` needs no entry; the same file in
another package is named in the entry-point group `ENTRY_POINTS`. `register_method` adds a class in this process alone.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, TypeVar, get_args

from senna_prune.errors import PruningError, brief, one_of, require
from senna_prune.pruning.base import Method, Stage
from senna_prune.pruning.budget import Budget
from senna_prune.pruning.options import Option, checked_options, options_of

METHODS = "senna_prune.pruning.methods"
ENTRY_POINTS = "senna_prune.methods"
"""Group in which an installed package lists methods: name = module, or name = module:class."""

M = TypeVar("M", bound=Method)
_registered: dict[str, type[Method]] = {}
"""What `register_method` has added in this process."""


def make_method(name: str, /, **options: Any) -> Method:
    """A method with checked options, before any host is known.

    Raises:
        PruningError: unknown method or option, or a value that an option does not take.
    """
    kind = _method(name)
    return kind(name=name, **checked_options(name, kind, options))


def make_pruner(
    name: str, budget: Budget, /, *, num_layers: int, num_heads: int, num_visual: int | None, **options: Any
) -> Method:
    """A method for one decoder and budget: the pruner that `prune` takes.

    Args:
        name: one of `method_names()`.
        budget: what it may spend.
        num_layers, num_heads: of the decoder.
        num_visual: visual tokens of a full sample, others may have fewer; None where they depend on the images.
        **options: see `method_options(name)`.

    Raises:
        PruningError: as `make_method`, or a budget of more tokens than a sample has, or an argument of another type.
    """
    if not isinstance(budget, Budget):
        raise PruningError(f"{brief(budget)} is no budget", where="budget", hint="give e.g. Budget.retention(0.25)")
    counts = {"num_layers": num_layers, "num_heads": num_heads}
    for argument, count in (counts | ({} if num_visual is None else {"num_visual": num_visual})).items():
        holds = isinstance(count, int) and not isinstance(count, bool) and count >= 1
        require(holds, argument, count, "a count", PruningError, "give a whole number above 0")
    if num_visual is not None and budget.kind == "tokens" and budget.value > num_visual:
        problem = f"{budget.value:g} tokens per layer, but a sample has {num_visual}"
        raise PruningError(problem, where="budget.tokens", hint="lower it")
    return make_method(name, **options).bind(budget, num_layers, num_heads)


@dataclass(frozen=True)
class Description:
    """What a method says of itself.

    Attributes:
        name: registered name.
        source: first line of its file: the publication.
        text: its docstring, one paragraph per entry.
        stage: where it cuts tokens.
        options: its own first, then those that every method takes.
    """

    name: str
    source: str
    text: tuple[str, ...]
    stage: Stage
    options: tuple[Option, ...]


def describe(name: str) -> Description:
    """A method's documentation, for tables and help."""
    kind = _method(name)
    text = tuple(" ".join(part.split()) for part in inspect.cleandoc(kind.__doc__ or "").split("\n\n"))
    source = (sys.modules[kind.__module__].__doc__ or "").strip().partition("\n")[0]
    return Description(name, source, text, kind.stage, options_of(kind))


def method_names() -> tuple[str, ...]:
    """Methods of this package and from outside it, sorted."""
    return tuple(sorted({*_entries(), *_registered}))


def method_options(name: str) -> dict[str, Any]:
    """Option names and published defaults of a method."""
    return {option.name: option.default for option in options_of(_method(name))}


def register_method(name: str) -> Callable[[type[M]], type[M]]:
    """A decorator that adds a method in this process, under a name that no other method has.

    Raises:
        PruningError: the name is taken or cannot be written in a configuration, or the class is not complete.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise PruningError(f"{brief(name)} cannot name a method", where="method", hint="use letters, digits and _")

    def register(kind: type[M]) -> type[M]:
        known = _registered.get(name)
        # The same class again is a module that was reloaded.
        again = known is not None and (known.__module__, known.__qualname__) == (kind.__module__, kind.__qualname__)
        if name in method_names() and not again:
            raise PruningError(f"there is a method {name!r} already", where="method", hint="choose another name")
        _registered[name] = _complete(kind, kind.__module__)
        return kind

    return register


def method_code(name: str) -> str:
    """A digest of the files that define a method and those it derives from."""
    found = hashlib.sha256()
    kinds = (kind for kind in _method(name).__mro__ if issubclass(kind, Method) and kind is not Method)
    for module in dict.fromkeys(kind.__module__ for kind in kinds):
        try:
            found.update(inspect.getsource(sys.modules[module]).encode())
        except (OSError, TypeError):
            found.update(b"no source file")
    return found.hexdigest()[:12]


def _complete(found: Any, where: str) -> type[Method]:
    """A method's class, given itself or the one module that defines it, if it can be built."""
    if isinstance(found, ModuleType):
        own = [value for value in vars(found).values() if getattr(value, "__module__", None) == found.__name__]
        kinds = [value for value in own if isinstance(value, type) and issubclass(value, Method)]
        if len(kinds) != 1:
            problem = f"{len(kinds)} subclasses of Method in one file"
            raise PruningError(problem, where=where, hint="define exactly one")
        found = kinds[0]
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise PruningError(f"{brief(found)} is no subclass of Method", where=where, hint="derive it from Method")
    if getattr(found, "stage", None) not in get_args(Stage):
        hint = 'write e.g. stage = "inside, once"'
        raise PruningError("the method does not say where it cuts tokens", where=where, hint=hint)
    if found.schedule is Method.schedule and (found.stage == "inside, once") != (found.published_layer is not None):
        hint = 'a cut inside has stage = "inside, once" and a published_layer, one before the decoder has neither'
        raise PruningError("stage and published_layer do not fit together", where=where, hint=hint)
    if inspect.isabstract(found):
        problem = f"the method does not define {', '.join(sorted(found.__abstractmethods__))}"
        raise PruningError(problem, where=where, hint="define it, see docs/tutorials/new-method.md")
    typed = {name for name, hint in inspect.get_annotations(found).items() if "ClassVar" not in str(hint)}
    lost = typed - {one.name for one in fields(found)}
    lost |= {one.name for one in fields(found) if vars(found).get(one.name, one.default) != one.default}
    if lost:
        hint = "give it a type, and write @dataclass(frozen=True, kw_only=True) above the class"
        raise PruningError(f"{', '.join(sorted(lost))} would not be an option", where=where, hint=hint)
    return found


def _method(name: str) -> type[Method]:
    one_of(name, method_names(), "method", "pruning method", PruningError)
    return _registered.get(name) or _load(name)


@cache
def _load(name: str) -> type[Method]:
    point = _entries()[name]
    where = f"entry point {name} = {point.value}"
    try:
        return _complete(point.load(), where)
    except (ImportError, AttributeError) as error:
        raise PruningError(f"cannot be loaded ({error})", where=where, hint="repair or remove the package") from error


@cache
def _entries() -> dict[str, EntryPoint]:
    """Every method that is a file, not loaded yet: those of this package, then those of installed ones."""
    files = pkgutil.iter_modules(importlib.import_module(METHODS).__path__)
    found = {file.name: EntryPoint(file.name, f"{METHODS}.{file.name}", ENTRY_POINTS) for file in files}
    for point in entry_points(group=ENTRY_POINTS):
        if found.setdefault(point.name, point) != point:
            problem, where = f"an installed package has a method {point.name!r} too", f"{point.name} = {point.value}"
            raise PruningError(problem, where=f"entry point {where}", hint="rename it there or remove the package")
    return found
