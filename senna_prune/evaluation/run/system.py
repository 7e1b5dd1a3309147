"""What can be evaluated: anything with these five methods. Tests evaluate a dummy, `senna_system` wraps the model."""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from senna_prune.config import EvaluationConfig
from senna_prune.cost import ModelShape
from senna_prune.errors import ConfigError, RunError
from senna_prune.evaluation.run.records import Condition, Decision
from senna_prune.task.sample import PlanningSample

NO_TOKENS = ModelShape(*[1] * len(ModelShape.__struct_fields__))
"""Of a system without visual tokens: its decisions have no trace, so nothing is computed from these numbers."""


@dataclass(frozen=True)
class Identity:
    """Digest of a system's weights and of everything else it decides by; and the numbers that decide its cost."""

    digest: str
    shape: ModelShape = NO_TOKENS


@dataclass(frozen=True)
class ResolvedSchedule:
    """What a condition will do, as far as it is known before any sample is seen.

    Attributes:
        entering, after: visual tokens entering and after each layer; empty for a system without visual tokens.
        text: text tokens beside them.
        parameter: the free parameter that was solved for, in words.
        note: why the budget is missed, if it is, or what the schedule still depends on.
    """

    entering: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    text: int = 0
    parameter: str = ""
    note: str = ""


@dataclass(frozen=True)
class Appearance:
    """How to draw visual tokens back onto an image.

    Attributes:
        paths: share of each patch in each token of a view, shape (view_tokens, patches), rows summing to 1.
        padded: images were centred on a square before they were cut into patches.
    """

    paths: Sequence[Sequence[float]]
    padded: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON: shares as bytes, each row scaled to its largest share; RunError where they are not finite."""
        if not all(math.isfinite(share) for row in self.paths for share in row):
            hint = "check the checkpoint: some of its weights are not finite"
            raise RunError("the adapter's weights are not finite", where="adapter", hint=hint)
        rows = [[round(255 * share / (max(row) or 1)) for share in row] for row in self.paths]
        shares = b64encode(bytes(value for row in rows for value in row)).decode()
        return {"padded": self.padded, "tokens": len(rows), "patches": len(rows[0]), "paths": shares}


@dataclass(frozen=True)
class Task:
    """One sample and the conditions still to decide it under.

    Attributes:
        depths: `Trace.depths` is asked for.
        taken: complexity by condition id, of the conditions that do not measure their own (see `controls`).
    """

    sample: PlanningSample
    conditions: tuple[Condition, ...]
    depths: bool
    taken: Mapping[str, float]


class EvaluatedSystem(Protocol):
    """A system that decides planning samples. Everything before `load` must be cheap."""

    def identity(self) -> Identity:
        """What is evaluated."""
        ...

    def resolve(self, condition: Condition, sample: PlanningSample) -> ResolvedSchedule:
        """The schedule of a condition on a sample like this one; a `SennaPruneError` if it cannot be decided under."""
        ...

    def load(self) -> Appearance | None:
        """Get ready to decide; returns how kept tokens are drawn, None where nothing can be drawn."""
        ...

    def prepare(self, task: Task, images: Sequence[bytes]) -> Any:
        """What a sample needs before any model is run.

        Called in a background thread, one sample at a time, while the model decides others.

        Args:
            task: to be decided.
            images: the bytes of its image files, in the order of the prompt's labels.

        Raises:
            ImageError: an image is unusable.
            InputError: naming the sample, whose question is to be changed.
        """
        ...

    def decide(self, prepared: Sequence[Any], conditions: Sequence[Condition]) -> Iterator[Sequence[Decision]]:
        """Decide samples together: for each condition in turn, all of them.

        What the conditions share is computed once, before the first. A consumer may stop in between.

        Args:
            prepared: what `prepare` returned.
            conditions: that `resolve` accepted, at least one.
        """
        ...


def make_system(config: EvaluationConfig) -> EvaluatedSystem:
    """The system that `config.system` names, made from the settings; also one in the current folder.

    Raises:
        ConfigError: it is not written `package:Class`, or cannot be imported.
        SennaPruneError: as the class raises it.
    """
    name, _, kind = config.system.partition(":")
    hint = "write package.module:Class, of a module that Python finds"
    if not {"", str(Path.cwd())} & {*sys.path}:
        sys.path.append(str(Path.cwd()))  # as `python -m` does
    try:
        made = getattr(importlib.import_module(name), kind)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{config.system!r} cannot be imported ({reason})", where="system", hint=hint) from error
    if not inspect.isclass(made):
        raise ConfigError(f"{config.system!r} is no class", where="system", hint=hint)
    return cast(EvaluatedSystem, cast(Any, made)(config))


def source_of(system: str) -> str:
    """The source file of a system's class, which the run key covers; empty where Python has none."""
    try:
        return inspect.getsource(sys.modules[system.partition(":")[0]])
    except (KeyError, OSError, TypeError):
        return ""
