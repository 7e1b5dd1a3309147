"""Time planning stage by stage: unpruned transformers `generate` against every method and retention, and the floor.

senna-prune benchmark --config configs/benchmark/cpu_decoder.yaml
senna-prune benchmark --config configs/benchmark/senna_7b.yaml device=cuda
senna-prune benchmark milliseconds=1500   (after a run that wrote a profile)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from senna_prune.cli import guarded
from senna_prune.commands.bundled import bundled

DEFAULT_CONFIG = "configs/benchmark/cpu_decoder.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="append", type=Path, metavar="FILE", help="merged left to right")
    parser.add_argument("--show-config", action="store_true", help="print every setting as YAML and stop")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, e.g. repeats=20")
    options = parser.parse_args(arguments)

    def action() -> None:
        # Imported here, so that Ctrl-C while torch loads is one line too.
        from rich.console import Console

        from senna_prune.benchmark.run import run_benchmark
        from senna_prune.benchmark.settings import BenchmarkConfig
        from senna_prune.config import as_yaml, load_config

        files = [bundled(file) for file in options.config or [DEFAULT_CONFIG]]
        config = load_config(BenchmarkConfig, files, options.overrides)
        if config.host.checkpoint is not None:
            config.host.checkpoint = str(bundled(config.host.checkpoint))
        if options.show_config:
            print(as_yaml(config), end="")
            return
        console = Console(width=None if sys.stdout.isatty() else 220)
        run_benchmark(config, console)

    return guarded(action)
