"""Typed settings: dataclasses, read from YAML files left to right and then from `key=value` overrides, by OmegaConf."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from senna_prune.errors import ConfigError, brief, one_line, one_of, require_between, require_name, require_shares
from senna_prune.task.labels import KINDS, PLAN, Readout
from senna_prune.task.plan_costs import COSTS

PROTOCOLS = ("parsed", "reference")
DTYPES = ("auto", "float32", "bfloat16", "float16")
SEED = (0, 2**32 - 1)
SENNA = "senna_prune.evaluation.run.senna_system:SennaSystem"
"""The system that is evaluated where the settings name no other."""

T = TypeVar("T")


def setting(default: Any, choices: Sequence[str] = (), bounds: tuple[int, int | None] | None = None) -> Any:
    """A field whose value is one of `choices`, or lies within `bounds`. Of a list each value does."""
    return field(default=default, metadata={"choices": choices, "bounds": bounds})


@dataclass
class DataConfig:
    """What is evaluated.

    Attributes:
        planning_set: JSON Lines files of `senna-prune convert`; their samples are evaluated together.
        image_root: folder that the samples' image paths are relative to; no path may lead out of it. Symbolic links
            inside it are followed, so images that lie elsewhere can be linked into it.
        camera_orders: evaluate every sample under each of these orders (`corrected`, `upstream`); empty: as converted.
        kinds: questions that are asked (`task.labels.KINDS`); samples of other kinds are left out, which is said.
    """

    planning_set: list[str] = field(default_factory=lambda: ["data/demo/planning_set.jsonl"])
    image_root: str = "data/demo"
    camera_orders: list[str] = field(default_factory=list, metadata={"choices": ("corrected", "upstream")})
    kinds: list[str] = field(default_factory=lambda: [PLAN], metadata={"choices": KINDS})


@dataclass
class ModelConfig:
    """Which checkpoint, and how it runs.

    Attributes:
        path: checkpoint folder.
        vision_tower: separate CLIP folder for checkpoints without a tower.
        dtype: `float32`, `bfloat16`, `float16`, or `auto`: as stored.
        device: `auto` (CUDA where present), `cpu`, `cuda`, `cuda:1`, ...
        attn_implementation: `sdpa`, `eager`, `flash_attention_2`, ...
        packed: lay weights out anew for fast products on an x86 CPU. They equal the plain products to rounding, which
            may decide between tokens or answers whose scores are as good as equal: it is another run than without.
        compiled: run single frames as compiled graphs, from the tower to the readout (see `engine.prune`). Numbers
            equal the others to rounding, and AutoPrune takes one of a few slopes, within 1 % of the visual tokens per
            layer. Batches run eagerly, and behind the adapter also seeded methods and free questions.
        preprocess: `exact` resizes images as the released model does, `device` on the model's device, by nearly the
            same filter.
    """

    path: str = "data/demo/model"
    vision_tower: str | None = None
    dtype: str = setting("float32", DTYPES)
    device: str = "auto"
    attn_implementation: str = "sdpa"
    packed: bool = False
    compiled: bool = False
    preprocess: str = setting("exact", ("exact", "device"))


@dataclass
class PruningConfig:
    """Methods x retentions x seeds.

    Attributes:
        methods: registered names, or labels of entries in `options`.
        retentions: shares of the visual tokens entering a layer, on average over layers, in (0, 1].
        accounting: `entering` meets the retention exactly; `published` leaves the counting to each method's own code.
        seeds: one run of every seeded method per seed.
        options: options by label; `method` in an entry names the label's method.
        controls: add `random` at the kept positions of every method where it is not listed, so that like is compared
            with like. Without it such a method is not compared with `random` at all.
        oracles: add `oracle` and `anti_oracle` at every retention where all samples tell their objects.
    """

    methods: list[str] = field(default_factory=lambda: ["none", "autoprune"])
    retentions: list[float] = field(default_factory=lambda: [0.25])
    accounting: str = setting("entering", ("entering", "published"))
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"bounds": SEED})
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    controls: bool = True
    oracles: bool = True


@dataclass
class ReadoutConfig:
    """How the answer is obtained.

    Attributes:
        mode: of a plan: `generate`, `constrained` or `one_pass`; any other answer is generated.
        max_new_tokens: longest plan.
        max_text_tokens: longest other answer; an object's motion takes about 16 tokens.
    """

    mode: str = setting("generate", get_args(Readout))
    max_new_tokens: int = setting(16, bounds=(1, 4096))
    max_text_tokens: int = setting(512, bounds=(1, 4096))


@dataclass
class ScoringConfig:
    """How decisions are counted.

    Attributes:
        protocol: `parsed` takes speed and path from the answer's words, `reference` repeats the released script.
        on_error: a sample with an unusable image stops the run (`fail`), counts as wrong for every method
            (`count_wrong`), or is left out for every method and reported (`skip_reported`).
        resamples: bootstrap resamples of scenes.
        seed: of the bootstrap.
        difference: share of samples, e.g. 0.05; `--explain` says how many samples show a difference of that size.
        costs: of wrong plans, in place of some of `task.plan_costs.COSTS`, e.g. `{STOP>ACCELERATE: 20}`.
    """

    protocol: str = setting("parsed", PROTOCOLS)
    on_error: str = setting("fail", ("fail", "count_wrong", "skip_reported"))
    resamples: int = setting(2000, bounds=(1, 100_000))
    seed: int = setting(0, bounds=SEED)
    difference: float = 0.05
    costs: dict[str, float] = field(default_factory=dict)


@dataclass
class EvaluationConfig:
    """Everything `senna-prune eval` can be told.

    Attributes:
        name: title of tables and reports, and the beginning of the default run folder's name.
        system: what is evaluated, as `package.module:Class`; see `evaluation.run.system`.
        limit: evaluate only so many samples of each kind of each planning set: whole scenes, spread over the set. A
            higher limit takes the same ones and more.
        batch_size: samples decided together, chosen by the length of their questions (seeded methods take them one by
            one). 1 gives the numbers of `Planner.decide`; others change the last digits of distributions, and with them
            an answer only where two were as good as equal. Times are shares of a batch's, peak memory is the batch's.
        token_map: by which map a token of Senna sees an object (see the page on the audit): `weights`, the same for all
            samples, or `inputs`, at each sample, which takes longer.
        kept_samples: record which tokens were kept for so many samples, spread over the set, for the report's images.
        output: run folder; None: `runs/<name>-<run key>`.
        log_with: trackers that the results are sent to, e.g. [tensorboard, wandb, trackio]; see accelerate.
    """

    name: str = "evaluation"
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    system: str = SENNA
    limit: int | None = setting(None, bounds=(1, None))
    batch_size: int = setting(1, bounds=(1, 1024))
    token_map: str = setting("weights", ("weights", "inputs"))
    kept_samples: int = setting(40, bounds=(0, None))
    output: str | None = None
    log_with: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _check_values(self)
        for key in ("data.planning_set", "data.kinds", "pruning.methods", "pruning.retentions", "pruning.seeds"):
            if not attrgetter(key)(self):
                raise ConfigError("the list is empty", where=key, hint="give at least one value")
        require_name(self.name, "name")
        require_shares(self.pruning.retentions, "pruning.retentions")
        if not 0 < self.scoring.difference <= 1:
            problem = f"{self.scoring.difference} is no difference of shares"
            raise ConfigError(problem, where="scoring.difference", hint="use (0, 1]; 0.05 is 5 points")
        if self.token_map == "inputs" and self.model.compiled:
            raise ConfigError("a compiled adapter cannot be looked into", where="token_map", hint="use weights")
        for key, cost in self.scoring.costs.items():
            one_of(key, COSTS, "scoring.costs")
            if not 0 <= cost <= 1e6:
                raise ConfigError(f"{cost} is no cost", where=f"scoring.costs.{key}", hint="use 0 to 1e6")


def _check_values(settings: Any, prefix: str = "") -> None:
    """Check every value against the choices and bounds of its field, those of the groups inside too."""
    for one in fields(settings):
        key, value = f"{prefix}{one.name}", getattr(settings, one.name)
        if is_dataclass(value):
            _check_values(value, f"{key}.")
        for each in value if isinstance(value, list) else [value]:
            if choices := one.metadata.get("choices"):
                one_of(each, choices, key)
            if bounds := one.metadata.get("bounds"):
                require_between(key, each, *bounds)


def load_config(schema: type[T], files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> T:
    """Merge defaults, files (left to right) and `key=value` overrides into one checked settings object.

    A single value given for a list becomes a list of one.

    Raises:
        ConfigError: a file is absent or no YAML mapping, a key is unknown (the nearest valid one is named), a value
            has the wrong type, or an override has no `=`.
    """
    keys = dict(_keys(schema))
    merged = OmegaConf.structured(schema)
    for file in files:
        merged = _merge(merged, _read_yaml(Path(file)), keys, str(file))
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{brief(override)} is not key=value", where="command line", hint="write e.g. limit=10")
        try:
            layer = OmegaConf.to_container(OmegaConf.from_dotlist([override]))
        except _UNREADABLE as error:
            raise ConfigError(_reason(error), where=override[:80]) from error
        merged = _merge(merged, cast("dict[str, Any]", layer), keys, override[:80])
    return _checked_object(merged)


def checked_config(schema: type[T], settings: Mapping[str, Any]) -> T:
    """Settings that were written as JSON, checked as `load_config` checks a file; raises as it does."""
    return _checked_object(_merge(OmegaConf.structured(schema), settings, dict(_keys(schema)), "settings"))


def _checked_object(merged: Any) -> Any:
    try:
        return OmegaConf.to_object(merged)
    except _UNREADABLE as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(_reason(error), where=getattr(error, "full_key", None) or "settings") from error


_UNREADABLE = (OmegaConfBaseException, YAMLError, ValueError, TypeError, RecursionError)
"""What OmegaConf raises over settings that are no text, mix containers or are nested without end."""


def as_yaml(settings: object) -> str:
    """All settings, defaults included, as a file that `load_config` reads."""
    return OmegaConf.to_yaml(OmegaConf.structured(settings))


def _keys(schema: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and type of every setting and every group of settings."""
    for name, kind in get_type_hints(schema).items():
        yield f"{prefix}{name}", kind
        if is_dataclass(kind):
            yield from _keys(cast(type, kind), f"{prefix}{name}.")


def _merge(merged: Any, layer: Mapping[str, Any], keys: Mapping[str, Any], where: str) -> Any:
    checked = _checked(layer, keys, where)
    try:
        return OmegaConf.merge(merged, checked)
    except _UNREADABLE as error:
        key = getattr(error, "full_key", None)
        raise ConfigError(f"{key}: {_reason(error)}" if key else _reason(error), where=where) from error


def _checked(layer: Mapping[str, Any], keys: Mapping[str, Any], where: str, prefix: str = "") -> dict[str, Any]:
    """One layer with every key known and every single value of a list setting made a list."""
    checked: dict[str, Any] = {}
    for key, value in layer.items():
        name = f"{prefix}{key}"
        if name not in keys:
            raise ConfigError(f"unknown key {name!r}", where=where, hint=f"did you mean {_nearest(name, keys)!r}?")
        if is_dataclass(keys[name]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{name!r} is a group of keys, not a value", where=where)
            value = _checked(value, keys, where, f"{name}.")
        elif get_origin(keys[name]) is list:
            value = value if isinstance(value, list) else [value]
            if nested := next((item for item in value if isinstance(item, list | Mapping)), None):
                problem = f"{name!r} takes single values, not {brief(str(nested))}"
                raise ConfigError(problem, where=where, hint="write e.g. [a, b]")
        checked[str(key)] = value
    return checked


def _nearest(name: str, keys: Iterable[str]) -> str:
    """The valid key most like `name`; a key whose last part is most like the last part of `name` where all differ."""
    names = sorted(keys)
    if close := difflib.get_close_matches(name, names, n=1, cutoff=0.75):
        return close[0]
    last = name.rpartition(".")[2]
    return max(names, key=lambda valid: difflib.SequenceMatcher(None, last, valid.rpartition(".")[2]).ratio())


def _read_yaml(path: Path) -> dict[str, Any]:
    if not os.path.isfile(path):  # noqa: PTH113 - `Path.is_file` fails for a name that is too long
        raise ConfigError("no such configuration file", where=path)
    try:
        layer = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, *_UNREADABLE) as error:
        raise ConfigError(f"not readable as YAML ({_reason(error)})", where=path) from error
    if isinstance(layer, dict):
        return cast("dict[str, Any]", layer)
    raise ConfigError("the file holds no mapping of keys to values", where=path)


def _reason(error: BaseException) -> str:
    """One line: what YAML found and where, or the first line of another message."""
    if isinstance(error, MarkedYAMLError) and error.problem:
        mark = error.problem_mark or error.context_mark
        return f"line {mark.line + 1}: {error.problem}" if mark else error.problem
    return one_line(str(error).strip().partition("\n")[0] or type(error).__name__)
