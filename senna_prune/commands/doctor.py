"""Says what will work with a checkpoint on this machine, what will not, and what to switch on.

    senna-prune doctor data/senna/ours
    senna-prune doctor data/senna/ours --planning-set val.jsonl --image-root data/nuscenes model.device=cuda

Plans one frame, unpruned and by AutoPrune at 25 %. Takes the settings of `senna-prune eval`; weights keep their type.
The exit status is 2 where something will not work.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from senna_prune.cli import guarded
from senna_prune.commands.bundled import bundled


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint folder, imported or as released")
    parser.add_argument("--planning-set", metavar="FILE", help="of `senna-prune convert`; its first frame is planned")
    parser.add_argument("--image-root", metavar="DIR", default=".", help="folder of its images (default: .)")
    parser.add_argument("--patient", action="store_true", help="plan even where that takes longer than a minute")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, e.g. model.vision_tower=DIR")
    options = parser.parse_intermixed_args(arguments)
    return guarded(lambda: _examine(options), interrupted="nothing was written")


def _examine(options: argparse.Namespace) -> None:
    # Imported here, so that Ctrl-C while they load is one line too.
    from senna_prune.config import EvaluationConfig, load_config
    from senna_prune.errors import RunError
    from senna_prune.evaluation.report.table import printable
    from senna_prune.evaluation.run.doctor import Doctor

    defaults = ["model.dtype=auto", "pruning.controls=false", "readout.mode=one_pass"]
    config = load_config(EvaluationConfig, overrides=[*defaults, *options.overrides])
    config.model.path = str(bundled(options.model))
    config.data.image_root = str(bundled(options.image_root))
    if options.planning_set is not None:
        config.data.planning_set = [str(bundled(options.planning_set))]
    doctor = Doctor(config, options.planning_set is not None, lambda line: print(printable(line), flush=True))
    if failed := doctor.examine(options.patient):
        hint = "each line above that begins with NO says what to do"
        raise RunError(f"will not work: {', '.join(failed)}", where=config.model.path, hint=hint)
