"""Finds a method by its name: the name of its file in `methods/`, so nothing needs to be registered here.

A method is one file in `methods/` that defines one subclass of `Method`; its name is the file's. The same file may also
be part of another package, see `register_method`.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, TypeVar

from senna_prune.errors import PruningError, nearest_of
from senna_prune.pruning.budget import Budget
from senna_prune.pruning.method import Method, Target, Tier
from senna_prune.pruning.options import Option, checked_options, options_of, shown
from senna_prune.pruning.pruner import Pruner

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
    return kind(**checked_options(name, kind, options))


def make_pruner(
    name: str, budget: Budget, /, *, num_layers: int, num_heads: int, num_visual: int | None, **options: Any
) -> Pruner:
    """Build a method for one host.

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
        raise PruningError(f"{shown(budget)} is no budget", where="budget", hint="give e.g. Budget.retention(0.25)")
    counts = {"num_layers": num_layers, "num_heads": num_heads}
    for argument, count in (counts | ({} if num_visual is None else {"num_visual": num_visual})).items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise PruningError(f"{shown(count)} is not a count", where=argument, hint="give a whole number above 0")
    if num_visual is not None and budget.kind == "tokens" and budget.value > num_visual:
        raise PruningError(
            f"{budget.value:g} tokens per layer, but a sample has {num_visual}", where="budget.tokens", hint="lower it"
        )
    method = make_method(name, **options)
    target = Target(budget, num_layers, num_heads)
    return Pruner(
        name=name,
        schedule=method.schedule(target),
        scorer=method.scorer(target),
        complexity=method.complexity(target),
        merger=method.merger(target),
        positions=method.positions,
        text_scope=method.text_scope,
        scope=method.scope,
        min_tokens_per_view=method.min_tokens_per_view,
        view_weights=method.view_weights,
        num_layers=num_layers,
    )


@dataclass(frozen=True)
class Description:
    """What a method says of itself.

    Attributes:
        name: registered name.
        source: first line of its file: the publication.
        text: its docstring before "Attributes", one paragraph per entry.
        tier: where it cuts tokens.
        options: its own first, then those that every method takes.
    """

    name: str
    source: str
    text: tuple[str, ...]
    tier: Tier
    options: tuple[Option, ...]


def describe(name: str) -> Description:
    """A method's documentation, for tables and help."""
    kind = _method(name)
    prose, _, _ = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:")
    paragraphs = tuple(" ".join(paragraph.split()) for paragraph in prose.strip().split("\n\n"))
    source = (sys.modules[kind.__module__].__doc__ or "").strip().partition("\n")[0]
    return Description(name, source, paragraphs, kind.tier, options_of(kind))


def method_names() -> tuple[str, ...]:
    """Methods of this package and from outside it, sorted."""
    return tuple(sorted({*_built_in(), *_entry_points(), *_registered}))


def method_options(name: str) -> dict[str, Any]:
    """Option names and published defaults of a method."""
    return {option.name: option.default for option in options_of(_method(name))}


def register_method(name: str) -> Callable[[type[M]], type[M]]:
    """A decorator that adds a method from outside this package, under a name that no other method has.

    An installed package needs no call: it lists the module of its method in the entry-point group `ENTRY_POINTS`.

    Raises:
        PruningError: the name is taken or cannot be written in a configuration, or the class is not complete.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise PruningError(f"{shown(name)} cannot name a method", where="method", hint="use letters, digits and _")

    def register(kind: type[M]) -> type[M]:
        known = _registered.get(name)
        # The same class again is a module that was reloaded.
        again = known is not None and (known.__module__, known.__qualname__) == (kind.__module__, kind.__qualname__)
        if name in method_names() and not again:
            raise PruningError(f"there is a method {name!r} already", where="method", hint="choose another name")
        _registered[name] = _complete(kind, kind.__module__)
        return kind

    return register


def outside_code(name: str) -> str | None:
    """A digest of the file that defines a method outside this package; None for a method of this package."""
    if name in _built_in():
        return None
    try:
        source = inspect.getsource(sys.modules[_method(name).__module__])
    except (OSError, TypeError):
        return "no source file"
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def method_in(module: ModuleType) -> type[Method]:
    """The one method a module defines."""
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise PruningError(
            f"{len(found)} subclasses of Method in one file", where=module.__name__, hint="define exactly one"
        )
    return _complete(found[0], module.__name__)


def _complete(kind: Any, where: str) -> type[Method]:
    """A method's class, if it is one that can be built."""
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise PruningError(f"{shown(kind)} is no subclass of Method", where=where, hint="derive it from Method")
    if not hasattr(kind, "tier"):
        hint = 'write e.g. tier = "inside, once"'
        raise PruningError("the method does not say where it cuts tokens", where=where, hint=hint)
    return kind


def _method(name: str) -> type[Method]:
    if isinstance(name, str) and name in _registered:
        return _registered[name]
    if not isinstance(name, str) or name not in method_names():
        hint = nearest_of(str(name), method_names())
        raise PruningError(f"unknown pruning method {shown(name)}", where="method", hint=hint)
    return _load(name)


@cache
def _load(name: str) -> type[Method]:
    if name in _built_in():
        return method_in(importlib.import_module(f"{METHODS}.{name}"))
    point = _entry_points()[name]
    where = f"entry point {name} = {point.value}"
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        raise PruningError(f"cannot be loaded ({error})", where=where, hint="repair or remove the package") from error
    return method_in(found) if isinstance(found, ModuleType) else _complete(found, where)


@cache
def _built_in() -> frozenset[str]:
    """Names of the files in `methods/`."""
    return frozenset(info.name for info in pkgutil.iter_modules(importlib.import_module(METHODS).__path__))


@cache
def _entry_points() -> dict[str, EntryPoint]:
    """Methods of installed packages, not loaded yet."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINTS):
        if point.name in _built_in() or found.get(point.name, point) != point:
            raise PruningError(
                f"an installed package has a method {point.name!r} too",
                where=f"entry point {point.name} = {point.value}",
                hint="rename it there or remove the package",
            )
        found[point.name] = point
    return found
