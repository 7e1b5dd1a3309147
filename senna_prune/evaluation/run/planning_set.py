"""The samples of a run: the questions of its sets that are asked, and whether their images are there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from senna_prune.config import DataConfig
from senna_prune.errors import ImageError, SampleError
from senna_prune.evaluation.run.reading import picture_paths
from senna_prune.files import confined
from senna_prune.task.answers import fault_of
from senna_prune.task.labels import CAMERAS
from senna_prune.task.sample import PlanningSample, read_samples


@dataclass(frozen=True)
class PlanningSet:
    """What a run evaluates.

    Attributes:
        samples: questions of the kinds that are asked, in the order of the files.
        left_out: number of samples of other kinds, by kind; they are not evaluated.
    """

    samples: list[PlanningSample]
    left_out: Counter[str]


def planning_set(data: DataConfig, limit: int | None = None) -> PlanningSet:
    """The questions of `data.kinds` (`limit` of each kind of each set), under every camera order asked for.

    A set without answers is evaluated too, by what needs none.

    Raises:
        SampleError: a set is absent or broken, holds no question of a kind that is asked, a truth is no answer to its
            question, some samples have an answer and others none, or an image path leads out of the image root.
    """
    samples: dict[str, PlanningSample] = {}
    left_out = Counter[str]()
    for path in data.planning_set:
        read = read_samples(path)
        left_out.update(sample.kind for sample in read if sample.kind not in data.kinds)
        for sample in spread([sample for sample in read if sample.kind in data.kinds], limit):
            where = f"{path}, sample {sample.key}"
            first = next(iter(samples.values()), sample)
            if bool(sample.answer.strip()) != bool(first.answer.strip()):
                problem = f"one of this sample and {first.key} has an answer, the other none"
                raise SampleError(problem, where=where, hint="evaluate them apart")
            if sample.answer.strip() and (fault := fault_of(sample.kind, sample.answer)):
                raise SampleError(f"the answer {sample.answer!r} {fault}", where=where)
            if {*sample.images} != {*first.images}:
                raise SampleError(f"other cameras than sample {first.key}", where=where, hint="evaluate them apart")
            if sample.key in samples:
                raise SampleError("the sample is in two planning sets", where=where)
            for image in sample.view_paths():
                confined(data.image_root, image, SampleError)
            samples[sample.key] = sample
    if missing := [kind for kind in data.kinds if all(sample.kind != kind for sample in samples.values())]:
        problem = f"no question of kind {missing[0]}"
        raise SampleError(
            problem, where=", ".join(data.planning_set), hint=f"convert with --kinds {','.join(data.kinds)}"
        )
    chosen = list(samples.values())
    if "upstream" in data.camera_orders and {*chosen[0].images} != {*CAMERAS}:
        raise SampleError("the camera order 'upstream' is one of nuScenes' six cameras", where="data.camera_orders")
    if data.camera_orders:
        # Images are stored by camera name, so their order can be chosen now. The command cannot: the question holds it.
        ordered = [
            replace(sample, convention=replace(sample.convention, cameras=order))  # type: ignore[arg-type]
            for sample in chosen
            for order in data.camera_orders
        ]
        chosen = list({sample.key: sample for sample in ordered}.values())
    return PlanningSet(chosen, left_out)


def spread(samples: Sequence[PlanningSample], limit: int | None) -> list[PlanningSample]:
    """At most `limit` samples of each kind: whole scenes spread over the set, but the last. Their order stays.

    Scenes come in the order of their numbers' bits read backwards (0, 4, 2, 6, 1, 5, 3, 7 of eight), so that the first
    ones are spread and a higher limit takes all that a lower one takes.
    """
    scenes = list(dict.fromkeys(sample.scene for sample in samples))
    bits = len(scenes).bit_length()
    order = {scene: int(f"{number:0{bits}b}"[::-1], 2) for number, scene in enumerate(scenes)}
    taken, counts = set[str](), Counter[str]()
    for sample in sorted(samples, key=lambda sample: order[sample.scene]):
        if counts[sample.kind] != limit:
            counts[sample.kind] += 1
            taken.add(sample.key)
    return [sample for sample in samples if sample.key in taken]


def require_images(samples: list[PlanningSample], root: Path) -> None:
    """Refuse a planning set whose images are not all there.

    Raises:
        ImageError: naming the first missing file and how many are missing.
        SampleError: an image path leads out of the root.
    """
    paths = dict.fromkeys(path for sample in samples for path in picture_paths(sample, root))
    # `Path.is_file` fails for a name that is too long.
    missing = [path for path in paths if not os.path.isfile(path)]  # noqa: PTH113
    if missing:
        raise ImageError(
            f"no such image ({len(missing)} of {len(paths)} images are missing)",
            where=missing[0],
            hint="set data.image_root, or scoring.on_error=skip_reported to leave these samples out",
        )
