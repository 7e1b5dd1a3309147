"""Methods by name. A method is one file in `methods/` that defines one subclass of `Method`; its name is the file's."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, ClassVar, Literal

from senna_prune.errors import PruningError, nearest_of
from senna_prune.pruning.budget import Budget
from senna_prune.pruning.interface import Complexity, Merger, Scorer
from senna_prune.pruning.options import Option, checked_options, options_of, shown
from senna_prune.pruning.pruner import Positions, Pruner, Scope, TextScope
from senna_prune.pruning.schedules import BudgetedSchedule

Tier = Literal["nowhere", "before the decoder, once", "inside, once", "inside, several times", "inside, every layer"]
"""Where a method cuts tokens. A serving engine keeps one length of the KV cache for all layers, so that today it can
only run a method that cuts before the decoder."""


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
        tier: where the method cuts tokens; every subclass says it.
        positions: kept tokens keep their RoPE positions ("original") or are renumbered without gaps ("repacked").
        text_scope: text queries whose attention counts: those after the last view ("question"), or all.
        scope: the views compete for one budget ("joint"), or each gets an equal share of it.
        min_tokens_per_view: tokens every view keeps at every boundary, as far as the budget allows.
        view_weights: one factor per view on its scores (on its share with scope "per_view"), e.g. [2, 1, 1, 1, 1, 1];
            see `selection.select_top`.
    """

    tier: ClassVar[Tier]
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
                f"{shown(getattr(self, option))} is out of range", where=f"option {option}", hint=f"give {rule}"
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


def make_method(name: str, /, **options: Any) -> Method:
    """A method with checked options, before any host is known.

    Raises:
        PruningError: unknown method or option, or a value that an option does not take.
    """
    kind = _method(name)
    return kind(**checked_options(name, kind, options))


def make_pruner(
    name: str, budget: Budget, /, *, num_layers: int, num_heads: int, num_visual: int, **options: Any
) -> Pruner:
    """Build a method for one host.

    Args:
        name: one of `method_names()`.
        budget: what it may spend.
        num_layers, num_heads: of the decoder.
        num_visual: visual tokens of a full sample; others may have fewer.
        **options: see `method_options(name)`.

    Raises:
        PruningError: as `make_method`, or a budget of more tokens than a sample has, or an argument of another type.
    """
    if not isinstance(budget, Budget):
        raise PruningError(f"{shown(budget)} is no budget", where="budget", hint="give e.g. Budget.retention(0.25)")
    for argument, count in (("num_layers", num_layers), ("num_heads", num_heads), ("num_visual", num_visual)):
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise PruningError(f"{shown(count)} is not a count", where=argument, hint="give a whole number above 0")
    if budget.kind == "tokens" and budget.value > num_visual:
        raise PruningError(
            f"{budget.value:g} tokens per layer, but a sample has {num_visual}", where="budget.tokens", hint="lower it"
        )
    method = make_method(name, **options)
    host = Host(budget, num_layers, num_heads)
    return Pruner(
        name=name,
        num_layers=num_layers,
        schedule=method.schedule(host),
        scorer=method.scorer(host),
        complexity=method.complexity(host),
        merger=method.merger(host),
        positions=method.positions,
        text_scope=method.text_scope,
        scope=method.scope,
        min_tokens_per_view=method.min_tokens_per_view,
        view_weights=method.view_weights,
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
    """Registered methods, sorted."""
    return tuple(sorted(_methods()))


def method_options(name: str) -> dict[str, Any]:
    """Option names and published defaults of a method."""
    return {option.name: option.default for option in options_of(_method(name))}


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
    if not hasattr(found[0], "tier"):
        raise PruningError(
            "the method does not say where it cuts tokens",
            where=module.__name__,
            hint='write e.g. tier = "inside, once"',
        )
    return found[0]


def _method(name: str) -> type[Method]:
    if not isinstance(name, str) or name not in _methods():
        hint = nearest_of(str(name), method_names())
        raise PruningError(f"unknown pruning method {shown(name)}", where="method", hint=hint)
    return _methods()[name]
