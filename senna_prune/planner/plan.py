"""What goes into the `Planner`, checked, and what comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from senna_prune.engine import SampleTrace
from senna_prune.engine.decoder import find_decoder
from senna_prune.errors import InputError, one_of, require
from senna_prune.hosts.host import find_host, unwrapped
from senna_prune.image_files import AnyImage
from senna_prune.pruning import Budget, Method, make_pruner
from senna_prune.task.labels import CAMERAS, CameraOrder, Command, Convention, Path, Speed
from senna_prune.task.prompts import planning_question


@dataclass(frozen=True)
class Timing:
    """Milliseconds per stage; for a frame decided in a batch, its equal share of the batch (`preprocess` is its own).

    Attributes:
        preprocess: prompt to ids and images to pixel values, wherever that was done.
        vision: pixel values to the device, vision tower (and the vision scores it gives pruning).
        adapter: projector and adapter.
        prefill: the prompt through the decoder, pruning included, up to the first token of the answer.
        readout: the rest of the answer.
    """

    preprocess: float = 0.0
    vision: float = 0.0
    adapter: float = 0.0
    prefill: float = 0.0
    readout: float = 0.0

    @property
    def total(self) -> float:
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Reply:
    """The answer to a question, and how it came about.

    Attributes:
        text: the answer in words.
        readout_positions: tokens that ran through the decoder after the prompt.
        trace: which visual tokens entered which layer, on the host.
        timing: milliseconds per stage.
    """

    text: str
    readout_positions: int
    trace: SampleTrace
    timing: Timing

    def __repr__(self) -> str:
        """One line; the trace's tensors would fill pages."""
        mean = sum(self.trace.entering) / len(self.trace.entering)
        cost = f"{mean:.1f} of {self.trace.num_visual} visual tokens per layer; {self.timing.total:.0f} ms"
        return f"{type(self).__name__}({self._answer()}; {cost})"

    def _answer(self) -> str:
        return repr(self.text)


@dataclass(frozen=True, repr=False)
class Plan(Reply):
    """A meta-action for the next three seconds, and how it came about; see `Reply`.

    Attributes:
        speed, path: the plan; None where a freely generated answer names no class or contradicts itself.
        distribution: probability of each of the 20 plans, normalised over them, in the order of `PLANS`; None with
            readout "generate", which computes none.
    """

    speed: Speed | None
    path: Path | None
    distribution: Mapping[tuple[Speed, Path], float] | None

    def _answer(self) -> str:
        if self.speed is None or self.path is None:
            return repr(self.text)
        odds = "" if self.distribution is None else f"; probability {self.distribution[self.speed, self.path]:.2f}"
        return f"{self.speed.value}, {self.path.value}{odds}"


@dataclass(frozen=True)
class Frame:
    """What `Planner.plan_batch` needs of one moment; see `Planner.plan`."""

    images: Mapping[str, AnyImage]
    speed: float
    command: Command | str


@dataclass(frozen=True)
class VisualTokens:
    """One prompt whose visual tokens are pruned already.

    Attributes:
        prompt: embeddings of the whole prompt, text included, shape (length, D).
        prompt_positions: position of each in the decoder, shape (length,): 0, 1, 2, ... with positions "repacked", as
            engines number prompt embeddings; with "original" those in the unpruned prompt.
        slots: where the n kept visual tokens stand in the prompt, ascending, shape (n,).
        cameras: nuScenes channel that each kept token comes from.
        origin: index of each kept token in the visual list of the unpruned prompt (negative: merged), shape (n,).
    """

    prompt: Tensor
    prompt_positions: Tensor
    slots: Tensor
    cameras: tuple[str, ...]
    origin: Tensor

    @property
    def embeddings(self) -> Tensor:
        """Of the kept visual tokens, shape (n, D)."""
        return self.prompt[self.slots]

    @property
    def positions(self) -> Tensor:
        """Of the kept visual tokens, shape (n,)."""
        return self.prompt_positions[self.slots]


def pruner_for(model: PreTrainedModel, method: str, budget: Budget | None = None, **options: Any) -> Method:
    """A pruning method built for this model.

    Args:
        model: the model it will prune; any that `prune` takes, wrapped or not.
        method: a registered method; "none" leaves every bit of the model's output as it is.
        budget: what the method may spend; None is all visual tokens.
        options: of the method. Where positions follow from the images (M-RoPE), `positions` is "original" by default,
            whatever the method published.

    Raises:
        PruningError: unknown method or option, a budget out of reach, or a model that is no host.
        InputError: an argument of the wrong type.
    """
    model = unwrapped(model)
    require(isinstance(model, PreTrainedModel), "model", model, "a model of transformers")
    require(isinstance(method, str), "method", method, "the name of a method")
    require(budget is None or isinstance(budget, Budget), "budget", budget, "a Budget such as Budget.retention(0.25)")
    host, decoder = find_host(model, required=False), find_decoder(model)
    return make_pruner(
        method,
        Budget.retention(1.0) if budget is None else budget,
        num_layers=decoder.num_layers,
        num_heads=model.config.get_text_config().num_attention_heads,
        num_visual=None if host is None else host.full_size,
        **({"positions": "original"} if decoder.multi_axis else {}) | options,
    )


def views_in_order(images: Mapping[str, AnyImage], cameras: Sequence[str]) -> list[AnyImage]:
    """The images in the order of `cameras`.

    Raises:
        InputError: not a mapping of exactly these cameras, or the checkpoint names none.
    """
    if not cameras:
        problem = "the checkpoint does not name its cameras, which are not nuScenes' six"
        hint = "name them in config.json (cameras), in the order of the prompt's labels"
        raise InputError(problem, where="model", hint=hint)
    if not isinstance(images, Mapping):
        problem = f"a {type(images).__name__} does not say which image is whose"
        raise InputError(problem, where="images", hint="pass a mapping of camera channels to images")
    if missing := [camera for camera in cameras if camera not in images]:
        raise InputError(f"no image of {', '.join(missing)}", where="images", hint="pass all cameras")
    if unknown := [camera for camera in images if camera not in cameras]:
        raise InputError(f"unknown camera {unknown[0]!r}", where="images", hint=f"use {', '.join(cameras)}")
    return [images[camera] for camera in cameras]


def cameras_of(names: tuple[str, ...], convention: CameraOrder) -> tuple[str, ...]:
    """The cameras whose images stand under the prompt's labels, in their order; none where nobody names them.

    Args:
        names: of the cameras that the checkpoint's configuration names.

    Raises:
        SampleError: unknown convention.
        InputError: the order of the released converter, for other cameras than nuScenes' six.
    """
    order = Convention(cameras=convention).camera_order
    if names == CAMERAS:
        return order
    if convention != "corrected":
        raise InputError("the order 'upstream' is one of nuScenes' six cameras", where="convention", hint="'corrected'")
    return names


def checked_question(speed: float, command: Command | str, labels: Sequence[str]) -> str:
    """The planning question.

    Args:
        speed: ego speed, m/s.
        command: navigation command.
        labels: of the views.

    Raises:
        InputError: a speed that is not a finite number of 0 or more, or an unknown command.
    """
    is_speed = isinstance(speed, Real) and not isinstance(speed, bool) and math.isfinite(speed) and speed >= 0
    require(is_speed, "speed", speed, "a speed in m/s", hint="pass a finite number, 0 or more")
    one_of(command, [known.value for known in Command], "command", "command", InputError)
    return planning_question(float(speed), Command(command).value, labels)
