"""Data of the report's sample browser: images, question, truth, every answer, kept tokens; and what pruning loses."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from senna_prune.errors import FileError, ImageError
from senna_prune.evaluation.report.kept_tokens import TokenMasks
from senna_prune.evaluation.run.records import UNPRUNED, Condition, Record
from senna_prune.evaluation.run.run_folder import Lines
from senna_prune.evaluation.score.judge import KIND_ORDER, is_right, say_the_same
from senna_prune.evaluation.score.metrics import read_plan
from senna_prune.files import confined
from senna_prune.image_files import open_image
from senna_prune.task.labels import PLAN, VIEW_LABELS
from senna_prune.task.sample import PlanningSample

PICTURE_WIDTH = 400
"""Pixels; six of them stand side by side or in two rows on a laptop screen."""
AROUND = ("FRONT LEFT", "FRONT", "FRONT RIGHT", "BACK LEFT", "BACK", "BACK RIGHT")
"""nuScenes' views as they stand around the car, three in a line."""


def around(labels: Sequence[str]) -> list[int]:
    """Numbers of a sample's views in the order in which they are shown: other cameras as they stand in the prompt."""
    return [labels.index(label) for label in (AROUND if tuple(labels) == VIEW_LABELS else labels)]


@dataclass(frozen=True)
class Pictures:
    """Where the page's images may come from. A run folder may be a stranger's, and whatever it names is embedded.

    Attributes:
        root: folder that the names in the planning set are relative to; no name leads out of it.
        within: folder that the files, links followed, must lie in; None where the user named `root`.
    """

    root: Path
    within: Path | None

    def open(self, name: str) -> Image.Image:
        """An image of the planning set; raises FileError or ImageError where it may not or cannot be shown."""
        path = confined(self.root, name)
        if self.within is not None and not Path(os.path.realpath(path)).is_relative_to(self.within):
            raise ImageError(f"outside the current folder; to show it: --image-root {self.root}", where=path)
        return open_image(path)

    def thumbnail(self, name: str, masks: TokenMasks | None = None) -> dict[str, Any]:
        """Width, height, data URI and the patches' square of a small upright JPEG, or why it could not be made."""
        try:
            small = self.open(name)
        except (FileError, ImageError) as error:
            return {"problem": error.problem}
        small.thumbnail((PICTURE_WIDTH, PICTURE_WIDTH))
        out = io.BytesIO()
        small.save(out, "JPEG", quality=70, optimize=True)
        uri = f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
        square = masks.square(small.size) if masks else None
        return {"width": small.width, "height": small.height, "uri": uri, "square": square}


def choose_samples(
    samples: Sequence[PlanningSample], lines: Lines, limit: int, wanted: Container[str] = ()
) -> list[PlanningSample]:
    """At most `limit` samples, in their order: first those whose keys are `wanted`, then those whose kept tokens were
    recorded, then those of which pruning changed the answer, then the rest."""

    of_sample: dict[str, list[Record]] = {}
    for (key, _), (record, _) in lines.items():
        of_sample.setdefault(key, []).append(record)

    def rank(sample: PlanningSample) -> tuple[bool, bool, bool]:
        records = of_sample[sample.key]
        recorded = any(record.trace and record.trace.depths for record in records)
        return sample.key not in wanted, not recorded, not _changed(records)

    candidates = [sample for sample in samples if sample.key in of_sample]
    chosen = {sample.key for sample in sorted(candidates, key=rank)[:limit]}
    return [sample for sample in candidates if sample.key in chosen]


def browser_data(
    samples: Sequence[PlanningSample],
    lines: Lines,
    conditions: Sequence[Condition],
    pictures: Pictures,
    protocol: str,
    masks: TokenMasks | None,
) -> list[dict[str, Any]]:
    """One entry per sample, as plain JSON values; `masks` None where the run does not say where its tokens stand."""
    return [_entry(sample, lines, conditions, pictures, protocol, masks) for sample in samples]


def _entry(
    sample: PlanningSample,
    lines: Lines,
    conditions: Sequence[Condition],
    pictures: Pictures,
    protocol: str,
    masks: TokenMasks | None,
) -> dict[str, Any]:
    records = [lines[sample.key, c.id][0] for c in conditions if (sample.key, c.id) in lines]
    speed, path = read_plan(sample.answer) if sample.kind == PLAN else ("", "")
    unpruned = next((record.answer for record in records if record.condition == UNPRUNED), None)
    return {
        "key": sample.key,
        "scene": sample.scene,
        "kind": sample.kind,
        "convention": sample.convention.name,
        "question": sample.question.rpartition("<image>")[2].strip(),
        "truth": sample.answer.strip(),
        "speed": speed,
        "path": path,
        "changed": _changed(records),
        "views": [
            {
                "number": view,
                "label": sample.labels[view],
                "camera": sample.cameras[view],
                "picture": pictures.thumbnail(sample.view_paths()[view], masks),
            }
            for view in around(sample.labels)
        ],
        "answers": [_answer(record, unpruned, protocol, masks) for record in records],
    }


def _answer(record: Record, unpruned: str | None, protocol: str, masks: TokenMasks | None) -> dict[str, Any]:
    trace = record.trace
    return {
        "condition": record.condition,
        "answer": record.answer,
        "error": record.error["message"] if record.error else None,
        "correct": is_right(record.kind, record.truth, record.answer, protocol),
        "changed": record.answer is not None
        and unpruned is not None
        and not say_the_same(record.kind, record.answer, unpruned),
        "entering": trace.entering if trace else None,
        "mask": masks.strip(trace.depths, len(trace.per_view[0]), len(trace.entering))
        if masks and trace and trace.depths
        else None,
        "complexity": trace.complexity if trace else None,
    }


def _changed(records: Sequence[Record]) -> bool:
    answers = {record.condition: record.answer for record in records if record.answer is not None}
    unpruned = answers.get(UNPRUNED)
    kind = records[0].kind
    return unpruned is not None and any(not say_the_same(kind, answer, unpruned) for answer in answers.values())


# Failures: right without pruning, wrong with it ----------------------------------------------------------------------

MOST = 24
"""Failures that are shown."""


@dataclass(frozen=True)
class Failures:
    """What pruning loses.

    Attributes:
        counts: row of a method -> kind -> samples that only the unpruned model has right, and only the method.
        shown: at most `MOST` failures as plain JSON values: sample key, condition, kind, scene, truth, both answers.
    """

    counts: dict[str, dict[str, tuple[int, int]]]
    shown: list[dict[str, Any]]


def failures(
    samples: Sequence[PlanningSample], lines: Lines, conditions: Sequence[Condition], protocol: str
) -> Failures:
    """Failures of every method with a budget; of a method with several seeds, those of its first.

    Methods and kinds take turns, and samples whose kept tokens were recorded come first, so that they can be drawn.
    """
    first = {c.row: c for c in reversed(conditions) if c.retention is not None}
    rows = [row for row in dict.fromkeys(c.row for c in conditions) if row in first]
    counts: dict[str, dict[str, tuple[int, int]]] = {row: {} for row in rows}
    queues: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for sample in sorted(samples, key=lambda one: KIND_ORDER.index(one.kind)):
        unpruned = _record(lines, sample, UNPRUNED)
        before = _right(unpruned, protocol)
        if unpruned is None or before is None:
            continue
        for row in rows:
            record = _record(lines, sample, first[row].id)
            after = _right(record, protocol)
            if record is None or after is None:
                continue
            lost, gained = counts[row].get(sample.kind, (0, 0))
            counts[row][sample.kind] = lost + (before and not after), gained + (after and not before)
            if before and not after:
                queues.setdefault((sample.kind, row), []).append(_failure(sample, unpruned, record))
    for queue in queues.values():
        queue.sort(key=lambda entry: not entry["drawn"])
    shown: list[dict[str, Any]] = []
    while len(shown) < MOST and any(queues.values()):
        shown += [queue.pop(0) for queue in queues.values() if queue]
    return Failures(counts, shown[:MOST])


def _record(lines: Lines, sample: PlanningSample, condition: str) -> Record | None:
    record, _ = lines.get((sample.key, condition), (None, None))
    return record


def _right(record: Record | None, protocol: str) -> bool | None:
    return None if record is None else is_right(record.kind, record.truth, record.answer, protocol)


def _failure(sample: PlanningSample, unpruned: Record, record: Record) -> dict[str, Any]:
    return {
        "sample": sample.key,
        "condition": record.condition,
        "kind": sample.kind,
        "scene": sample.scene,
        "truth": sample.answer.strip(),
        "unpruned": unpruned.answer,
        "answer": record.answer if record.answer is not None else "(unusable image)",
        "drawn": bool(record.trace and record.trace.depths),
    }
