"""What `--methods` prints: every pruning method, where it cuts tokens, and its documented options."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from senna_prune.pruning import describe, method_names
from senna_prune.pruning.base import Method
from senna_prune.pruning.options import Option, options_of


def show_methods(console: Console | None = None) -> None:
    """Print every registered method, and once the options that every method takes; on standard output by default."""
    console = console or Console()
    common = options_of(Method)
    names = {option.name for option in common}
    for method in map(describe, method_names()):
        positions = next(option.default for option in method.options if option.name == "positions")
        console.print(Text.assemble((method.name, "bold"), f"  acts: {method.stage}; positions: {positions}"))
        for paragraph in (method.source, *method.text):
            _print(console, Text(paragraph), 2)
        _print_options(console, [option for option in method.options if option.name not in names])
    console.print(Text.assemble(("Options of every method", "bold")))
    _print_options(console, common)


def _print_options(console: Console, options: Sequence[Option]) -> None:
    for option in options:
        default = "null" if option.default is None else str(option.default)
        _print(console, Text.assemble((f"{option.name} = {default}", "bold"), f"  ({option.values})"), 2)
        _print(console, Text(option.text), 6)
    console.print()


def _print(console: Console, text: Text, indent: int) -> None:
    console.print(Padding(text, (0, 0, 0, indent), expand=False))
