"""Evaluate pruned planning. Without arguments: the bundled demo, unpruned and pruned to 25 % by four methods.

    senna-prune eval --config configs/demo.yaml --config configs/table3.yaml
    senna-prune eval pruning.retentions=[0.2,0.4] scoring.protocol=reference
    accelerate launch --multi_gpu --num_processes 2 -m senna_prune.commands eval ...

A run that was cut off goes on where it stopped when the same command is given again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from senna_prune.cli import guarded
from senna_prune.commands.bundled import bundled

if TYPE_CHECKING:
    from senna_prune.config import EvaluationConfig


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="append", type=Path, metavar="FILE", help="merged left to right")
    methods = "same as pruning.methods=[A,B]; alone: print all methods and hosts"
    parser.add_argument("--methods", nargs="?", const="", metavar="A,B", help=methods)
    parser.add_argument("--limit", metavar="N", help="same as limit=N: N samples of each kind, spread over the set")
    parser.add_argument("--output", metavar="DIR", help="same as output=DIR: the run folder")
    parser.add_argument("--dry-run", action="store_true", help="print the plan of work and stop")
    parser.add_argument("--explain", action="store_true", help="print every schedule and its cost and stop")
    parser.add_argument("--verbose", action="store_true", help="print every table, not the summary alone")
    parser.add_argument("--report", action="store_true", help="also write the report")
    parser.add_argument("--show-config", action="store_true", help="print every setting as YAML and stop")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, e.g. data.image_root=/data")
    options = parser.parse_intermixed_args(arguments)
    return guarded(lambda: _evaluate(options))


def load_evaluation(files: Sequence[Path] | None, overrides: Sequence[str]) -> EvaluationConfig:
    """Settings of an evaluation; the demo's where no file is named. What is not here is taken from the package."""
    from senna_prune.config import EvaluationConfig, load_config

    config = load_config(EvaluationConfig, [bundled(file) for file in files or [Path("configs/demo.yaml")]], overrides)
    sets, root = [str(bundled(path)) for path in config.data.planning_set], str(bundled(config.data.image_root))
    config.data = replace(config.data, planning_set=sets, image_root=root)
    config.model = replace(config.model, path=str(bundled(config.model.path)))
    return config


def _evaluate(options: argparse.Namespace) -> None:
    # Imported here, so that Ctrl-C while they load is one line too.
    from senna_prune.config import as_yaml
    from senna_prune.evaluation.evaluate import evaluate
    from senna_prune.evaluation.report.methods import show_methods
    from senna_prune.evaluation.run.system import make_system
    from senna_prune.hosts.support import show_hosts

    if options.methods == "":
        show_methods()
        return show_hosts()
    flags = {"pruning.methods": options.methods and f"[{options.methods}]", "limit": options.limit}
    flags |= {"output": options.output}
    overrides = [*options.overrides, *(f"{key}={value}" for key, value in flags.items() if value is not None)]
    config = load_evaluation(options.config, overrides)
    if options.show_config:
        return print(as_yaml(config), end="")
    evaluate(
        config,
        make_system(config),
        explain_only=options.explain,
        dry_run=options.dry_run,
        verbose=options.verbose,
        report=options.report,
    )
