"""Which method runs on which host, and why not: the table that ends `senna-prune eval --methods`."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from senna_prune.hosts.host import UNFINISHED, host_class, host_names
from senna_prune.pruning import Budget, make_pruner, method_names

LAYERS, TOKENS = 32, 576


def verdict(method: str, kind: str) -> str:
    """What `pruner_for` and `prune` do with a method, at its defaults, on the models of one file of this folder:
    "runs", or "refused: " and the reason."""
    host = host_class(kind)
    pruner = make_pruner(method, Budget.retention(0.5), num_layers=LAYERS, num_heads=LAYERS, num_visual=None)
    if host.first_cut and pruner.plan(TOKENS, LAYERS).tokens[host.first_cut - 1] < TOKENS:
        return f"refused: cuts before layer {host.first_cut}"
    return "runs"


def show_hosts(console: Console | None = None) -> None:
    """Print a row for each method and a column for each host, reasons of refusals, and the models without a file."""
    console, kinds = console or Console(), host_names()
    console.print(Text("Methods on hosts", "bold"))
    table, reasons = Table("method", *kinds, box=SIMPLE), []
    for method in method_names():
        told = {kind: verdict(method, kind) for kind in kinds}
        table.add_row(method, *(answer.partition(":")[0] for answer in told.values()))
        reasons += [f"{method} on {kind} is {answer}" for kind, answer in told.items() if answer != "runs"]
    console.print(table)
    for kind in kinds:
        if not host_class(kind).renumbers:
            reasons.append(f"{kind}: tokens keep their positions, which follow from the images; repacked is refused")
    reasons += [f"{kind} is refused: {reason}" for kind, reason in UNFINISHED.items()]
    for reason in reasons:
        console.print(Text(reason))
