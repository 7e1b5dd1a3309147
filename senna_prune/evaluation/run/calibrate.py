"""Measures complexities on unlabelled samples and writes their quantiles, by which AutoPrune can be calibrated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from senna_prune.config import EvaluationConfig
from senna_prune.errors import ConfigError, SampleError
from senna_prune.evaluation.run.calibration import Profile, measured_by
from senna_prune.evaluation.run.controls import control_of
from senna_prune.evaluation.run.progress import Meter
from senna_prune.evaluation.run.reading import ImageReader
from senna_prune.evaluation.run.records import Condition, rounded
from senna_prune.evaluation.run.senna_system import SennaSystem
from senna_prune.evaluation.run.sweep import expand
from senna_prune.evaluation.run.system import Task
from senna_prune.task.labels import PLAN
from senna_prune.task.sample import PlanningSample, read_samples

SHARES = np.linspace(0, 1, 21)
"""Of the samples that lie below each quantile."""


def calibrate(config: EvaluationConfig, label: str, count: int) -> Profile:
    """Measure a method's complexity at every retention of the settings.

    Args:
        config: names model, planning sets, images, retentions and the method's options. Answers are not read.
        label: a label of `pruning.methods` that stands for AutoPrune.
        count: samples to measure, spread evenly over the sets.

    Raises:
        ConfigError: the label stands for nothing that measures a complexity, or for a method calibrated already.
        SennaPruneError: as an evaluation of these settings raises it.
    """
    conditions = _conditions(config, label)
    asked = [sample for path in config.data.planning_set for sample in read_samples(path, PLAN)]
    if not asked:
        raise SampleError("no planning questions", where=", ".join(config.data.planning_set))
    samples = _spread(asked, count)
    # One token is enough: the complexity is measured while the prompt is read.
    system = SennaSystem(replace(config, readout=replace(config.readout, mode="generate", max_new_tokens=1)))
    reader = ImageReader(Path(config.data.image_root), {})
    system.load()
    measured: dict[str, list[float]] = {}
    with Meter(len(samples)) as meter:
        for sample in samples:
            prepared = system.prepare(Task(sample, (), False, {}), reader.read(sample)[0])
            for condition, (decision,) in zip(conditions, system.decide([prepared], conditions), strict=True):
                assert decision.trace is not None and decision.trace.complexity is not None
                measured.setdefault(f"{condition.retention:g}", []).append(decision.trace.complexity)
            meter.advance(1)
    return Profile(
        checkpoint=system.identity().digest,
        measured_by=measured_by(conditions[0].resolved),
        samples=len(samples),
        quantiles={
            name: tuple(rounded(float(value)) for value in np.quantile(values, SHARES))
            for name, values in measured.items()
        },
    )


def _conditions(config: EvaluationConfig, label: str) -> list[Condition]:
    pruning = replace(config.pruning, methods=[label], controls=False)
    found = [condition for condition in expand(pruning) if condition.label == label]
    if found[0].method != "autoprune" or control_of(found[0]) or found[0].resolved["quantiles"]:
        problem = f"{label!r} measures no complexity that could be calibrated"
        raise ConfigError(
            problem, where="label", hint="name a label of autoprune with an indicator, without calibration"
        )
    return found


def _spread(samples: list[PlanningSample], count: int) -> list[PlanningSample]:
    """At most `count` samples, evenly spaced, as neighbours look alike."""
    taken = min(count, len(samples))
    return [samples[number * len(samples) // taken] for number in range(taken)]
