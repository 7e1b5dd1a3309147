"""Methods by name. A method is one file in `methods/` that defines one subclass of `Method`; its name is the file's."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from functools import cache
from types import ModuleType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from senna_prune.errors import PruningError, nearest_of
from senna_prune.pruning.budget import Budget
from senna_prune.pruning.interface import Complexity, Merger, Scorer
from senna_prune.pruning.pruner import Positions, Pruner, Scope, TextScope
from senna_prune.pruning.schedules import BudgetedSchedule


@dataclass(frozen=True)
class Host:
    """The decoder and the budget a method is built for."""

    budget: Budget
    num_layers: int
    num_heads: int


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """Options of a method; the defaults of a subclass are the published ones.

    Attributes:
        positions, text_scope, scope, min_tokens_per_view, view_weights: see `Pruner`.
    """

    positions: Positions = "original"
    text_scope: TextScope = "question"
    scope: Scope = "joint"
    min_tokens_per_view: int = 0
    view_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        self.require(self.min_tokens_per_view >= 0, "min_tokens_per_view", "a count of tokens, 0 or more")
        weights = self.view_weights
        self.require(weights is None or (min(weights, default=0) >= 0 < sum(weights)), "view_weights", "0 or more each")

    def require(self, holds: bool, option: str, rule: str) -> None:
        """Refuse an option's value.

        Raises:
            PruningError: `holds` is false.
        """
        if not holds:
            raise PruningError(
                f"{getattr(self, option)!r} is out of range", where=f"option {option}", hint=f"give {rule}"
            )

    @abstractmethod
    def schedule(self, host: Host) -> BudgetedSchedule:
        """How many tokens enter each layer."""

    @abstractmethod
    def scorer(self, host: Host) -> Scorer:
        """Which ones."""

    def complexity(self, host: Host) -> Complexity | None:
        """Number per sample the schedule depends on."""
        return None

    def merger(self, host: Host) -> Merger | None:
        """What becomes of the others."""
        return None


def make_pruner(
    name: str, budget: Budget, *, num_layers: int, num_heads: int, num_visual: int, **options: Any
) -> Pruner:
    """Build a method for one host.

    Args:
        name: one of `method_names()`.
        budget: what it may spend.
        num_layers, num_heads: of the decoder.
        num_visual: visual tokens of a full sample; others may have fewer.
        **options: see `method_options(name)`.

    Raises:
        PruningError: unknown method or option, a value an option does not take, or a budget of more tokens than a
            sample has.
    """
    if budget.kind == "tokens" and budget.value > num_visual:
        raise PruningError(
            f"{budget.value:g} tokens per layer, but a sample has {num_visual}", where="budget.tokens", hint="lower it"
        )
    kind = _method(name)
    method = kind(**_checked_options(name, kind, options))
    host = Host(budget, num_layers, num_heads)
    return Pruner(
        name=name,
        schedule=method.schedule(host),
        scorer=method.scorer(host),
        complexity=method.complexity(host),
        merger=method.merger(host),
        positions=method.positions,
        text_scope=method.text_scope,
        scope=method.scope,
        min_tokens_per_view=method.min_tokens_per_view,
        view_weights=method.view_weights,
        num_layers=num_layers,
    )


def method_names() -> tuple[str, ...]:
    """Registered methods, sorted."""
    return tuple(sorted(_methods()))


def method_options(name: str) -> dict[str, Any]:
    """Option names and published defaults of a method."""
    return {field.name: field.default for field in fields(_method(name))}


def method_summary(name: str) -> str:
    """First line of a method's docstring."""
    return (_method(name).__doc__ or "").strip().splitlines()[0]


@cache
def _methods() -> dict[str, type[Method]]:
    package = importlib.import_module("senna_prune.pruning.methods")
    names = [info.name for info in pkgutil.iter_modules(package.__path__)]
    return {name: method_in(importlib.import_module(f"{package.__name__}.{name}")) for name in names}


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
    return found[0]


def _method(name: str) -> type[Method]:
    if name not in _methods():
        raise PruningError(f"unknown pruning method {name!r}", where="method", hint=nearest_of(name, method_names()))
    return _methods()[name]


def _checked_options(name: str, kind: type[Method], options: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    checked = {}
    for option, value in options.items():
        if option not in known:
            raise PruningError(f"unknown option {option!r}", where=f"method {name}", hint=nearest_of(option, known))
        value = tuple(value) if isinstance(value, list) else value
        if not _fits(value, hints[option]):
            raise PruningError(
                f"{value!r} is not {_spell(hints[option])}", where=f"method {name}, option {option}", hint="correct it"
            )
        checked[option] = value
    return checked


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if arguments and (origin is Union or type(hint).__name__ == "UnionType"):
        return any(_fits(value, argument) for argument in arguments)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _spell(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_args(hint) and get_origin(hint) is not tuple:
        return " or ".join(map(_spell, get_args(hint)))
    if hint is type(None):
        return "null"
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
