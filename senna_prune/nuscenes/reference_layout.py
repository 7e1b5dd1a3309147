"""Planning sets in the layout of the released Senna converter (`eval_plan_qa.json`): one JSON list of conversations."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from senna_prune.errors import SampleError
from senna_prune.files import accessing, digest, write_whole
from senna_prune.nuscenes.behaviour import FUTURE_STEPS
from senna_prune.task.labels import CAMERAS, CameraOrder, Convention
from senna_prune.task.sample import PlanningSample

KIND_PHRASES = {
    "plan": "what is your plan for the next three seconds",
    "vru": "any vulnerable road users",
    "motion": "predict their future driving behaviors",
    "traffic_light": "identify if there is a traffic light",
    "description": "generate a description of the driving scene",
    "explanation": "explain the most likely reason for this decision",
}
"""What tells the kind of a question, which the layout does not record."""

Trajectory = tuple[tuple[float, float], ...]


def write_reference(
    path: Path | str, samples: Iterable[PlanningSample], keyframe: Callable[[str], Mapping[str, Any]], image_root: Path
) -> None:
    """Write samples as the released converter does, atomically.

    Args:
        keyframe: gives the row of the sample table (`prev`, `next`, `scene_token`) of a token.
        image_root: put before every image path, as the devkit does.

    Raises:
        SampleError: the file cannot be written.
    """

    def pieces() -> Iterator[str]:
        before = "[\n"
        for sample in samples:
            record = _to_reference(sample, keyframe(sample.token), image_root)
            yield before + json.dumps(record, ensure_ascii=False)
            before = ",\n"
        yield "\n]\n" if before == ",\n" else "[]\n"

    write_whole(path, pieces())


def _to_reference(sample: PlanningSample, row: Mapping[str, Any], image_root: Path) -> dict[str, Any]:
    images = [str(image_root / path) for path in sample.view_paths()]
    real = sample.trajectory or ()
    # past the scene's end the reference repeats the last position, which at its last keyframe is the car's own
    padded = [*real, *[real[-1] if real else (0.0, 0.0)] * (FUTURE_STEPS - len(real))]
    return {
        "token": sample.token,
        "image": images[0],
        "images": images,
        "prev": row["prev"],
        "next": row["next"],
        "scene_token": row["scene_token"],
        "fut_valid_flag": str(len(real) == FUTURE_STEPS),
        "ego_fut_trajs": str([coordinate for point in padded for coordinate in point]),
        "conversations": [
            {"from": "human", "value": sample.question},
            {"from": "gpt", "value": sample.answer},
        ],
    }


def read_reference(path: Path | str, command: CameraOrder = "upstream") -> list[PlanningSample]:
    """Read a user's file in that layout.

    The order of the six image paths tells the camera convention; nothing in the file tells the command convention. The
    scene token stands in for the scene name, the front image's time stamp for the keyframe's.

    Args:
        command: the navigation command's convention; the released converter writes `upstream`.

    Raises:
        SampleError: the file or one of its records is not of that layout.
    """
    path = Path(path)
    if not path.is_file():
        raise SampleError("no such file", where=path)
    try:
        with accessing(path, "read"):
            records = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SampleError(f"not JSON ({error})", where=path) from error
    if not isinstance(records, list) or not records:
        raise SampleError("not a list of records", where=path)
    source, counts = digest(path), Counter[tuple[str, str]]()
    samples = []
    for number, record in enumerate(records):
        sample = _from_reference(record, f"{path}, record {number}", command, source)
        index = counts[sample.token, sample.kind]
        counts[sample.token, sample.kind] += 1
        samples.append(replace(sample, index=index))
    return samples


def _from_reference(record: Any, where: str, command: CameraOrder, source: str) -> PlanningSample:
    try:
        token, scene, paths = record["token"], record["scene_token"], record["images"]
        question, answer = (turn["value"] for turn in record["conversations"])
        if not all(isinstance(text, str) for text in (token, scene, question, answer)):
            raise TypeError("token, scene_token, question and answer must be texts")
    except (KeyError, TypeError, ValueError) as error:
        hint = "pass a file of the Senna converter, with token, scene_token, images and conversations"
        raise SampleError(f"not a record of the reference's layout ({error!r})", where=where, hint=hint) from error
    images = _images(paths, where)
    conventions = (Convention("upstream", command), Convention("corrected", command))
    convention = next((one for one in conventions if one.camera_order == tuple(images)), None)
    if convention is None:
        raise SampleError(f"the images stand in an unknown order: {', '.join(images)}", where=where)
    kind = next((kind for kind, phrase in KIND_PHRASES.items() if phrase in question), None)
    if kind is None or question.count("<image>") != len(CAMERAS):
        raise SampleError("the question is of no known kind or has not six <image> markers", where=where)
    told = re.search(r"current speed is (-?\d+) m/s,.* navigation command is '([^']*)'", question)
    stamp = re.search(r"__(\d+)\.\w+$", images["CAM_FRONT"])
    return PlanningSample(
        token=token,
        scene=scene,
        timestamp=int(stamp.group(1)) if stamp else 0,
        kind=kind,
        images=images,
        question=question,
        answer=answer,
        speed=float(told.group(1)) if told else None,
        command=told.group(2) if told else None,
        convention=convention,
        trajectory=_trajectory(record, where),
        source=source,
    )


def _images(paths: Any, where: str) -> dict[str, str]:
    """Paths below the data root by camera channel, in the order given."""
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise SampleError("images is not a list of paths", where=where)
    images = {}
    for path in paths:
        found = re.search(r"(?:^|/)(samples/(CAM_[A-Z_]+)/[^/]+)$", path)
        if not found:
            raise SampleError(f"no samples/CAM_.../ in the image path {path!r}", where=where)
        images[found.group(2)] = found.group(1)
    return images


def _trajectory(record: Mapping[str, Any], where: str) -> Trajectory | None:
    """The labelled future; None where it is absent or cut short, since its padding cannot be told from standing."""
    text = record.get("ego_fut_trajs")
    if text is None or str(record.get("fut_valid_flag")) != "True":
        return None
    if not isinstance(text, list):
        text = re.sub(r"np\.float\d+\(([^)]*)\)", r"\1", str(text)).strip("[] ").split(",")  # repr under numpy 2
    try:
        numbers = [float(number) for number in text]
    except (TypeError, ValueError) as error:
        raise SampleError(f"ego_fut_trajs is not a list of numbers ({error})", where=where) from error
    return tuple(zip(numbers[::2], numbers[1::2], strict=False))
