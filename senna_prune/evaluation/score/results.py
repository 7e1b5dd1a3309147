"""All scores of a run: the planning table, scores by kind of question, scores by the samples' circumstances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from senna_prune.config import ScoringConfig
from senna_prune.errors import RunError
from senna_prune.evaluation.run.records import SCHEMA_VERSION, Record
from senna_prune.evaluation.run.run_folder import RunInfo
from senna_prune.evaluation.score.breakdowns import break_down
from senna_prune.evaluation.score.consistency import require_consistent
from senna_prune.evaluation.score.kinds import score_kinds
from senna_prune.evaluation.score.scoring import score
from senna_prune.task.labels import PLAN
from senna_prune.task.sample import PlanningSample


def all_scores(
    records: Sequence[Record], samples: Sequence[PlanningSample], info: RunInfo, scoring: ScoringConfig, complete: bool
) -> dict[str, Any]:
    """`results.json`: that of `score` for plans, `kinds` where other questions were asked too, and `breakdowns`.

    Args:
        records: all decisions.
        samples: the questions they are about.
        info: conditions and model shape.
        scoring: may differ from the run's own.
        complete: every decision is made.

    Raises:
        RunError: nothing is decided under every condition, or a decision contradicts the run.
        ConfigError: free text is to be scored and sacrebleu is not installed.
    """
    require_consistent(records, info.conditions, info.shape)
    conditions, kinds = info.conditions, {record.kind for record in records}
    groups = [] if kinds == {PLAN} else score_kinds(records, samples, conditions, scoring)
    results: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "status": "complete" if complete else "partial",
        "protocol": scoring.protocol,
        "on_error": scoring.on_error,
        "groups": [],
    }
    if PLAN in kinds and (not groups or any(PLAN in group["kinds"] for group in groups)):
        plans = [record for record in records if record.kind == PLAN]
        results |= score(plans, conditions, info.shape, scoring, complete)
    elif not groups:
        raise RunError("no sample is decided under every condition yet", hint="let the run go on for longer")
    if groups:
        results["kinds"] = groups
    results["breakdowns"] = break_down(records, samples, conditions, scoring)
    return results
