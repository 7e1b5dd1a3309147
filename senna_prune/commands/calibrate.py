"""Calibrate AutoPrune on a host: quantiles of its complexity over unlabelled samples, written as a profile.

    senna-prune calibrate --config configs/demo.yaml --samples 300 --out runs/demo_calibration.json
    senna-prune eval --config configs/demo.yaml pruning.options.autoprune.calibration=runs/demo_calibration.json

Takes the settings of `senna-prune eval`; retentions not in `pruning.retentions` are not in the profile.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from senna_prune.cli import guarded


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="append", type=Path, metavar="FILE", help="merged left to right")
    parser.add_argument("--label", default="autoprune", help="label of the method in the settings (default: autoprune)")
    parser.add_argument("--samples", type=int, default=300, metavar="N", help="how many to measure (default: 300)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the profile")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, e.g. pruning.retentions=[0.2,0.4]")
    options = parser.parse_intermixed_args(arguments)
    if options.samples < 2:
        parser.error(f"argument --samples: {options.samples} is less than 2")
    return guarded(lambda: _calibrate(options), interrupted="nothing is written")


def _calibrate(options: argparse.Namespace) -> None:
    # Imported here, so that Ctrl-C while they load is one line too.
    from senna_prune.commands.evaluate import load_evaluation
    from senna_prune.evaluation.report.table import printable
    from senna_prune.evaluation.run.calibrate import calibrate
    from senna_prune.files import check_output

    check_output(options.out)
    config = load_evaluation(options.config, options.overrides)
    profile = calibrate(config, options.label, options.samples)
    profile.write(options.out)
    for retention, found in profile.quantiles.items():
        middle = found[len(found) // 2]
        print(f"retention {retention}: {found[0]:.3g} to {found[-1]:.3g}, median {middle:.3g}")
    print(printable(f"{profile.samples} samples: {options.out}"))
