"""An evaluated system without a model: answers are drawn from a hash of sample and condition."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from senna_prune.config import EvaluationConfig, ScoringConfig
from senna_prune.cost import ModelShape
from senna_prune.errors import ImageError
from senna_prune.evaluation.run.controls import takes_measured
from senna_prune.evaluation.run.records import Condition, Decision, Record, Trace
from senna_prune.evaluation.run.run_folder import RunInfo
from senna_prune.evaluation.run.system import Appearance, Identity, ResolvedSchedule, Task
from senna_prune.evaluation.score.results import all_scores
from senna_prune.files import Journal
from senna_prune.task.labels import CAMERAS, PLANS, plan_text
from senna_prune.task.sample import PlanningSample, write_samples

SHAPE = ModelShape(
    views=6,
    patches=16,
    patch_values=588,
    vision_width=32,
    vision_mlp=64,
    vision_layers=2,
    view_tokens=4,
    width=64,
    mlp=128,
    layers=4,
    vocabulary=512,
    query_width=64,
    key_width=64,
    value_bytes=4,
)
QUESTION = "".join(f"<{n}>:\n<image>\n" for n in range(6)) + "what is your plan?"


WRONG = {
    "vru": ("No, I don't see any.", "Yes, I see a bicycle located 3 meters ahead of me.", "Perhaps."),
    "motion": ("Object 1: KEEP, STRAIGHT\nObject 2: KEEP, STRAIGHT\n", "Object 1: STOP, STRAIGHT\n", "Two cars."),
}
"""What the dummy answers to other questions when it is wrong; some of it may be right."""


def scores_of(
    records: Iterable[Record],
    conditions: Sequence[Condition],
    scoring: ScoringConfig,
    samples: Sequence[PlanningSample] = (),
    complete: bool = True,
) -> dict[str, Any]:
    """`results.json` of decisions that were made up, of a model of the dummy's shape."""
    info = RunInfo("made up", "complete", {}, {}, tuple(conditions), SHAPE)
    return all_scores(list(records), samples, info, scoring, complete)


def draw(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big") / 2**48


def make_planning_set(folder: Path, scenes: int = 5, per_scene: int = 4) -> Path:
    """Samples with one tiny file per image, and plans that favour KEEP, STRAIGHT."""
    samples = []
    for scene in range(scenes):
        for number in range(per_scene):
            token = f"token{scene:02d}{number:02d}"
            images = {camera: f"images/{token}_{camera}.jpg" for camera in CAMERAS}
            for path in images.values():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(b"picture")
            truth = PLANS[0] if draw(token) < 0.5 else PLANS[int(20 * draw(token, "plan"))]
            samples.append(
                PlanningSample(
                    token, f"scene-{scene:04d}", number, "plan", images, QUESTION, plan_text(*truth), 5.0, "go straight"
                )
            )
    write_samples(folder / "set.jsonl", samples)
    return folder / "set.jsonl"


class DummySystem:
    """See `EvaluatedSystem`; `delay` seconds per decision, and a count of what was computed."""

    def __init__(self, config: EvaluationConfig, delay: float = 0.0, checkpoint: str = "dummy") -> None:
        self.config, self.delay, self.checkpoint = config, delay, checkpoint
        self.prepared: list[str] = []
        self.encoded: list[str] = []
        self.decided: list[tuple[str, str]] = []
        self.loaded = False

    def identity(self) -> Identity:
        return Identity(self.checkpoint, SHAPE)

    def resolve(self, condition: Condition, sample: PlanningSample) -> ResolvedSchedule:
        entering = self._entering(condition)
        return ResolvedSchedule(entering, (*entering[1:], entering[-1]), text=11, parameter="none to solve")

    def load(self) -> Appearance | None:
        self.loaded = True
        paths = [[1 / 4 if patch // 4 == token else 0.0 for patch in range(16)] for token in range(4)]
        return Appearance(paths, padded=True)

    def prepare(self, task: Task, images: Sequence[bytes]) -> Task:
        self.prepared.append(task.sample.key)
        for path, image in zip(task.sample.view_paths(), images, strict=True):
            if not image.startswith(b"picture"):
                raise ImageError("not an image", where=path)
        return task

    def decide(self, prepared: Sequence[Task], conditions: Sequence[Condition]) -> Iterator[list[Decision]]:
        assert self.loaded
        self.encoded += [task.sample.key for task in prepared]
        for condition in conditions:
            alone = condition.seed is not None or len(prepared) == 1
            company = "" if alone else "/".join(task.sample.key for task in prepared)
            yield [self.decide_one(task, condition, company) for task in prepared]

    def decide_one(self, task: Task, condition: Condition, company: str) -> Decision:
        sample, taken = task.sample, task.taken.get(condition.id)
        time.sleep(self.delay)
        self.decided.append((sample.key, condition.id))
        entering = self._entering(condition)
        right = {"none": 0.9, "blind": 0.3}.get(condition.method, 0.5 + 0.5 * (condition.retention or 0))
        plan = plan_text(*PLANS[int(20 * draw(sample.key, condition.id, "plan"))])
        if sample.kind != "plan":
            guesses = WRONG[sample.kind]
            plan = guesses[int(len(guesses) * draw(sample.key, condition.id, "guess"))]
        return Decision(
            answer=sample.answer if draw(sample.key, condition.id) < right else plan,
            trace=Trace(
                entering=entering,
                after=(*entering[1:], entering[-1]),
                text=11,
                per_view=tuple(tuple(n // 6 + (view < n % 6) for view in range(6)) for n in entering),
                complexity=self._complexity(sample, condition, taken),
                depths=tuple(sum(n > token for n in entering) for token in range(24)) if task.depths else None,
            ),
            readout_positions=5,
            # The last digits of a batch depend on who is in it.
            distribution=tuple(round(0.05 + 1e-6 * draw(company, plan), 12) for plan in range(20)) if company else None,
            milliseconds={"preprocess": 1.0, "vision": 2.0, "prefill": 4.0 * draw(time.time()), "readout": 1.0},
        )

    def _complexity(self, sample: PlanningSample, condition: Condition, taken: float | None) -> float | None:
        if takes_measured(condition):
            return taken
        return round(draw(sample.key), 6) if condition.method == "autoprune" else None

    def _entering(self, condition: Condition) -> tuple[int, ...]:
        if condition.method in ("none", "blind"):
            return (24 if condition.method == "none" else 0,) * 4
        kept = round(24 * (condition.retention or 1))
        return (24, kept, kept, max(1, kept // 2))


@contextmanager
def cut_off(moment: int) -> Iterator[None]:
    """Every journal written inside, together, is cut off by Ctrl-C before its line number `moment`."""
    append, count = Journal.append, 0

    def stop(self: Journal, record: object) -> None:
        nonlocal count
        count += 1
        if count == moment:
            raise KeyboardInterrupt
        append(self, record)

    with patch.object(Journal, "append", stop):
        yield
