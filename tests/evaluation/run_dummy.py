"""`tools/eval_planning.py` on the dummy system: `python -m tests.evaluation.run_dummy key=value ...`.

`DUMMY_DELAY` sets the seconds that one decision takes.
"""

from __future__ import annotations

import os
import sys

from senna_prune.cli import guarded
from senna_prune.config import EvaluationConfig, load_config
from senna_prune.evaluation.evaluate import evaluate
from tests.evaluation.dummy import DummySystem


def main(overrides: list[str]) -> int:
    def action() -> None:
        config = load_config(EvaluationConfig, overrides=overrides)
        evaluate(config, DummySystem(config, float(os.environ.get("DUMMY_DELAY", "0"))))

    return guarded(action)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
