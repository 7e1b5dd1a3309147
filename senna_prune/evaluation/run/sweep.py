"""From settings to the plan of work: which samples, and under which conditions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from senna_prune.config import DataConfig, PruningConfig, one_of
from senna_prune.errors import ConfigError, ImageError, SampleError
from senna_prune.evaluation.run.records import MAJORITY, RANDOM, UNPRUNED, Condition
from senna_prune.pruning.registry import make_method, method_names, method_options
from senna_prune.task.answers import parse_answer
from senna_prune.task.sample import PlanningSample, read_samples

UNBUDGETED = (UNPRUNED, "blind")
"""Methods that take no retention: one condition each."""
CONTROLS = (*UNBUDGETED, RANDOM, "uniform")
"""Labels that stand for themselves: a reader of the table relies on them."""


def expand(pruning: PruningConfig) -> tuple[Condition, ...]:
    """Methods x retentions x seeds, in the order given. `none` is always there, first: every ratio is to it.

    Raises:
        ConfigError: a condition stands twice, or options are given for a label that stands for no method.
        PruningError: an unknown method.
    """
    known = {*pruning.methods, *method_names()}
    for label in pruning.methods:
        if label == MAJORITY or (pruning.options.get(label, {}).get("method", label) != label and label in CONTROLS):
            raise ConfigError(f"{label!r} is the name of a control", where="pruning", hint="choose another label")
        if set(label) & set("@#|"):
            raise ConfigError(f"the label {label!r} holds @, # or |", where="pruning", hint="choose another label")
    for label, given in pruning.options.items():
        if "method" not in given:
            one_of(label, sorted(known), "pruning.options")
    conditions: list[Condition] = []
    for label in [UNPRUNED, *(label for label in pruning.methods if label != UNPRUNED)]:
        options: dict[str, Any] = dict(pruning.options.get(label, {}))
        method = options.pop("method", label)
        make_method(method, **options)  # refuses what it does not take before any work is done
        seeds = pruning.seeds if "seed" in method_options(method) and "seed" not in options else [None]
        retentions = [None] if method in UNBUDGETED else pruning.retentions
        conditions += [Condition(label, method, r, seed, options) for r in retentions for seed in seeds]
    ids = [condition.id for condition in conditions]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise ConfigError(f"{twice!r} stands twice", where="pruning", hint="list methods, retentions and seeds once")
    return tuple(conditions)


def planning_samples(data: DataConfig, limit: int | None = None) -> list[PlanningSample]:
    """The planning questions of the sets (the first `limit` of each), under every camera order asked for.

    Raises:
        SampleError: a set is absent or broken, holds no planning question, or a truth is no plan.
    """
    samples: dict[str, PlanningSample] = {}
    for path in data.planning_set:
        for sample in [sample for sample in read_samples(path) if sample.kind == "plan"][:limit]:
            if not parse_answer(sample.answer).parsed:
                raise SampleError(f"the answer {sample.answer!r} is no plan", where=f"{path}, sample {sample.key}")
            if sample.key in samples:
                raise SampleError(f"sample {sample.key} stands in two planning sets", where=path)
            samples[sample.key] = sample
    if not samples:
        raise SampleError("no planning questions", where=", ".join(data.planning_set), hint="convert with --kinds plan")
    chosen = list(samples.values())
    if data.camera_orders:
        # Images are stored by camera name, so their order can be chosen now; the command cannot, it is in the question.
        ordered = [
            replace(sample, convention=replace(sample.convention, cameras=order))  # type: ignore[arg-type]
            for sample in chosen
            for order in data.camera_orders
        ]
        chosen = list({sample.key: sample for sample in ordered}.values())
    return chosen


def require_images(samples: list[PlanningSample], root: Path) -> None:
    """Refuse a planning set whose pictures are not all there.

    Raises:
        ImageError: naming the first missing file and how many are missing.
    """
    paths = dict.fromkeys(root / path for sample in samples for path in sample.view_paths())
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ImageError(
            f"no such image ({len(missing)} of {len(paths)} images are missing)",
            where=missing[0],
            hint="set data.image_root, or scoring.on_error=skip_reported to leave these samples out",
        )
