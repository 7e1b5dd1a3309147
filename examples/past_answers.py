"""A planner that has nothing to do with Senna, evaluated as Senna is: it looks its answers up in a table of past runs.

    senna-prune eval system=examples.past_answers:PastAnswers model.path=answers.csv \
        "pruning.methods=[none,cautious]" "pruning.options={cautious: {method: none}}"

The CSV has the columns token, condition and answer. `none` is what every other condition is compared with.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from senna_prune.config import EvaluationConfig
from senna_prune.errors import InputError
from senna_prune.evaluation.run.records import Condition, Decision
from senna_prune.evaluation.run.system import Identity, ResolvedSchedule, Task
from senna_prune.files import digest
from senna_prune.task.sample import PlanningSample


class PastAnswers:
    def __init__(self, config: EvaluationConfig) -> None:
        self.path = Path(config.model.path)
        with self.path.open(encoding="utf-8", newline="") as file:
            self.answers = {(row["token"], row["condition"]): row["answer"] for row in csv.DictReader(file)}

    def identity(self) -> Identity:
        return Identity(digest(self.path))

    def resolve(self, condition: Condition, sample: PlanningSample) -> ResolvedSchedule:
        return ResolvedSchedule()  # there are no visual tokens to choose

    def load(self) -> None:
        """Nothing to load, and nothing to draw."""

    def prepare(self, task: Task, images: Sequence[bytes]) -> str:
        for condition in task.conditions:
            if (task.sample.token, condition.id) not in self.answers:
                raise InputError(f"no answer under {condition.id}", where=f"sample {task.sample.key}")
        return task.sample.token

    def decide(self, prepared: Sequence[str], conditions: Sequence[Condition]) -> Iterator[list[Decision]]:
        for condition in conditions:
            yield [Decision(self.answers[token, condition.id]) for token in prepared]
