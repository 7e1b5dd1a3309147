"""Planning sets in the layout of the released Senna converter (`eval_plan_qa.json`): one JSON list of conversations.

Deviation: every record that we write has one more field, `planning_sample`, which holds what the layout has no place
for: scene name, time stamp, conventions, the number of a question, sources. So a set read back is the one written.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from senna_prune.errors import SampleError
from senna_prune.files import digest, read_json, write_whole
from senna_prune.nuscenes.behaviour import FUTURE_STEPS
from senna_prune.nuscenes.schema import Sample
from senna_prune.task.labels import CameraOrder, Convention
from senna_prune.task.sample import SCHEMA_VERSION, PlanningSample

KIND_PHRASES = {
    "plan": "what is your plan for the next three seconds",
    "vru": "any vulnerable road users",
    "motion": "predict their future driving behaviors",
    "traffic_light": "identify if there is a traffic light",
    "description": "generate a description of the driving scene",
    "explanation": "explain the most likely reason for this decision",
}
"""What tells the kind of a question, which the layout does not record."""

MAX_BYTES = 1 << 30
"""Largest file that is read."""

_OURS = "planning_sample"
_ELSEWHERE = ("token", "question", "answer")
"""Fields of a sample that the layout has a place for. Images are not of them: it prefixes their paths."""


def write_reference(
    path: Path | str, samples: Iterable[PlanningSample], keyframe: Callable[[str], Sample], image_root: Path
) -> None:
    """Write samples as the released converter does, atomically.

    Args:
        keyframe: gives the record of the sample table of a token.
        image_root: put before every image path, as the devkit does.

    Raises:
        FileError: the file cannot be written.
    """

    def pieces() -> Iterator[str]:
        before = "[\n"
        for sample in samples:
            record = _to_reference(sample, keyframe(sample.token), image_root)
            yield before + json.dumps(record, ensure_ascii=False)
            before = ",\n"
        yield "\n]\n" if before == ",\n" else "[]\n"

    write_whole(path, pieces())


def _to_reference(sample: PlanningSample, row: Sample, image_root: Path) -> dict[str, Any]:
    images = [str(image_root / path) for path in sample.view_paths()]
    real = sample.trajectory or ()
    # past the scene's end the reference repeats the last position, which at its last keyframe is the car's own
    padded = [*real, *[real[-1] if real else (0.0, 0.0)] * (FUTURE_STEPS - len(real))]
    return {
        "token": sample.token,
        "image": images[0],
        "images": images,
        "prev": row.prev,
        "next": row.next,
        "scene_token": row.scene_token,
        "fut_valid_flag": str(len(real) == FUTURE_STEPS),
        "ego_fut_trajs": str([coordinate for point in padded for coordinate in point]),
        "conversations": [
            {"from": "human", "value": sample.question},
            {"from": "gpt", "value": sample.answer},
        ],
        _OURS: {name: value for name, value in sample.to_dict().items() if name not in _ELSEWHERE},
    }


def read_reference(path: Path | str, convention: Convention | None = None) -> list[PlanningSample]:
    """Read a user's file in that layout.

    A record that we wrote gives back the sample it was made from. In a record of the released converter the scene token
    stands in for the scene name and the front image's time stamp for the keyframe's; the order of its images tells the
    camera convention, but nothing tells the command convention.

    Args:
        convention: what the file follows, needed where it does not say so itself. `upstream` if the released converter
            wrote it.

    Raises:
        SampleError: the file or one of its records is not of that layout, or the convention is missing or another one.
        FileError: the file cannot be read.
    """
    records = read_json(path, list, MAX_BYTES)
    if not records:
        raise SampleError("an empty list", where=path)
    source, counts = digest(path), Counter[tuple[str, str]]()
    samples: dict[str, PlanningSample] = {}
    for number, record in enumerate(records):
        where = f"{path}, record {number}"
        fields = _fields(record, where)
        if _OURS not in record:
            fields |= _deduced(record, fields, convention, where)
            fields |= {"index": counts[fields["token"], fields["kind"]], "source": source}
            counts[fields["token"], fields["kind"]] += 1
        sample = PlanningSample.from_dict(fields, where)
        if convention not in (None, sample.convention):
            problem = f"the convention is {sample.convention.name!r}, not {convention.name!r}"
            raise SampleError(problem, where=where, hint=f"pass --convention {sample.convention.name}")
        if sample.key in samples:
            raise SampleError(f"sample {sample.key} stands twice", where=where)
        samples[sample.key] = sample
    return list(samples.values())


def _fields(record: Any, where: str) -> dict[str, Any]:
    """The fields of a sample that every record holds, and of our own records all others."""
    try:
        question, answer = (turn["value"] for turn in record["conversations"])
        told = {"token": record["token"], "question": question, "answer": answer}
        fields = {**record.get(_OURS, {"schema": SCHEMA_VERSION, "scene": record["scene_token"]}), **told}
        if not all(isinstance(fields[name], str) for name in ("scene", *_ELSEWHERE)):
            raise TypeError("token, scene_token, question and answer must be texts")
        json.dumps(fields, ensure_ascii=False).encode()  # lone surrogates cannot be written
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        hint = "pass a file of the Senna converter, with token, scene_token, images and conversations"
        raise SampleError(f"not a record of the reference's layout ({error!r})", where=where, hint=hint) from error
    return fields


def _deduced(
    record: Mapping[str, Any], fields: Mapping[str, Any], convention: Convention | None, where: str
) -> dict[str, Any]:
    """What a record of the released converter says of its sample between the lines."""
    if convention is None:
        hint = "pass --convention upstream if the released converter wrote it"
        raise SampleError("nothing tells the convention of the navigation command", where=where, hint=hint)
    images, question = _images(record.get("images"), where), fields["question"]
    orders = {
        one.camera_order: one for one in (Convention(order, convention.command) for order in get_args(CameraOrder))
    }
    if tuple(images) not in orders:
        raise SampleError(f"the images stand in an unknown order: {', '.join(images)}", where=where)
    kind = next((kind for kind, phrase in KIND_PHRASES.items() if phrase in question), None)
    if kind is None:
        raise SampleError("the question is of no known kind", where=where)
    told = re.search(r"current speed is (-?\d+) m/s,.* navigation command is '([^']*)'", question)
    stamp = re.search(r"__(\d{1,18})\.\w+$", images["CAM_FRONT"])
    return {
        "timestamp": int(stamp.group(1)) if stamp else 0,
        "kind": kind,
        "images": images,
        "speed": float(told.group(1)) if told else None,
        "command": told.group(2) if told else None,
        "convention": orders[tuple(images)].to_dict(),
        "trajectory": _trajectory(record, where),
    }


def _images(paths: Any, where: str) -> dict[str, str]:
    """Paths below the data root by camera channel, in the order given."""
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise SampleError("images is not a list of paths", where=where)
    images = {}
    for path in paths:
        found = re.search(r"(?:^|/)(samples/(CAM_[A-Z_]+)/[^/]+)$", path.replace("\\", "/"))
        if not found:
            raise SampleError(f"no samples/CAM_.../ in the image path {path!r}", where=where)
        images[found.group(2)] = found.group(1)
    return images


def _trajectory(record: Mapping[str, Any], where: str) -> list[list[float]] | None:
    """The labelled future; None where it is absent or cut short, since its padding cannot be told from standing."""
    text = record.get("ego_fut_trajs")
    if text is None or str(record.get("fut_valid_flag")) != "True":
        return None
    if not isinstance(text, list):
        text = re.sub(r"np\.float\d+\(([^)]*)\)", r"\1", str(text)).strip("[] ").split(",")  # repr under numpy 2
    try:
        numbers = [float(number) for number in text]
    except (TypeError, ValueError, OverflowError) as error:
        raise SampleError(f"ego_fut_trajs is not a list of numbers ({error})", where=where) from error
    if len(numbers) != 2 * FUTURE_STEPS:
        raise SampleError(f"ego_fut_trajs holds {len(numbers)} numbers, not {2 * FUTURE_STEPS}", where=where)
    return [list(point) for point in zip(numbers[::2], numbers[1::2], strict=True)]
