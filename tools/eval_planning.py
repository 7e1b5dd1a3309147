"""Evaluate pruned planning. Without arguments: the bundled demo, unpruned and with AutoPrune at 25 %.

    tools/eval_planning.py --config configs/demo.yaml --config configs/table3.yaml
    tools/eval_planning.py pruning.retentions=[0.2,0.4] scoring.protocol=reference
    accelerate launch --multi_gpu --num_processes 2 tools/eval_planning.py ...

A run that was cut off goes on where it stopped when the same command is given again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from senna_prune.cli import guarded

DEFAULT_CONFIG = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="append", type=Path, metavar="FILE", help="merged left to right")
    parser.add_argument(
        "--methods", nargs="?", const="", metavar="A,B", help="same as pruning.methods=[A,B]; alone: print all methods"
    )
    parser.add_argument("--limit", metavar="N", help="same as limit=N: the first N samples of each kind")
    parser.add_argument("--output", metavar="DIR", help="same as output=DIR: the run folder")
    parser.add_argument("--dry-run", action="store_true", help="print the plan of work and stop")
    parser.add_argument("--explain", action="store_true", help="print every schedule and its cost and stop")
    parser.add_argument("--show-config", action="store_true", help="print every setting as YAML and stop")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, e.g. data.image_root=/data")
    options = parser.parse_intermixed_args(arguments)
    return guarded(lambda: _evaluate(options))


def _evaluate(options: argparse.Namespace) -> None:
    # Imported here, so that Ctrl-C while they load is one line too.
    from senna_prune.config import EvaluationConfig, as_yaml, load_config
    from senna_prune.evaluation.evaluate import evaluate
    from senna_prune.evaluation.report.methods import show_methods
    from senna_prune.evaluation.run.senna_system import SennaSystem

    if options.methods == "":
        return show_methods()
    flags = {"pruning.methods": options.methods and f"[{options.methods}]", "limit": options.limit}
    flags |= {"output": options.output}
    overrides = [*options.overrides, *(f"{key}={value}" for key, value in flags.items() if value is not None)]
    config = load_config(EvaluationConfig, options.config or [DEFAULT_CONFIG], overrides)
    if options.show_config:
        return print(as_yaml(config), end="")
    evaluate(config, SennaSystem(config), explain_only=options.explain, dry_run=options.dry_run)


if __name__ == "__main__":
    sys.exit(main())
