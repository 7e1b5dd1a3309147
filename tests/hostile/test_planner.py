"""Hostile callers of the Python interface: wrong types, broken weights, several threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.engine import prune
from senna_prune.errors import InputError, SennaPruneError
from senna_prune.evaluation.run.planning_set import planning_set
from senna_prune.evaluation.run.senna_system import SennaSystem
from senna_prune.evaluation.run.system import Task
from senna_prune.model import SennaForConditionalGeneration
from senna_prune.planner.planner import Frame, Planner, pruner_for
from senna_prune.pruning import Budget, Pruner
from senna_prune.task.labels import CAMERAS, Readout
from senna_prune.task.prompts import planning_question
from tests.evaluation.checkpoint import write_checkpoint, write_planning_set
from tests.fakes import tiny_senna, tiny_views

READOUTS: tuple[Readout, ...] = ("generate", "constrained", "one_pass")
IMAGES: Any = dict(zip(CAMERAS, tiny_views(), strict=True))


def pruner(name: str = "fastv", layers: int = 4) -> Pruner:
    return pruner_for(tiny_senna(num_layers=layers)[0], name, Budget.retention(0.5))


def planner(**settings: Any) -> Planner:
    return Planner(*tiny_senna(), **settings)


def plan(model: Any, processor: Any, name: str, readout: Readout) -> Any:
    own = Planner(model, processor, pruner(name), readout, max_new_tokens=4)
    return own.plan(IMAGES, 6.0, "go straight")


def on_meta() -> SennaForConditionalGeneration:
    with torch.device("meta"):
        return SennaForConditionalGeneration(tiny_senna()[0].config)


CALLS: dict[str, tuple[Callable[[], object], str]] = {
    "no model": (lambda: Planner(None, tiny_senna()[1]), "model: None is not a SennaForConditionalGeneration"),  # type: ignore[arg-type]
    "swapped": (lambda: Planner(*reversed(tiny_senna())), "model: a SennaProcessor is not"),  # type: ignore[arg-type]
    "no processor": (lambda: Planner(tiny_senna()[0], "x"), "processor: 'x' is not a SennaProcessor"),  # type: ignore[arg-type]
    "meta": (lambda: Planner(on_meta(), tiny_senna()[1]), "all are on the meta device"),
    "pruner by name": (lambda: planner(pruner="fastv"), "pruner: 'fastv' is not a Pruner"),
    "pruner class": (lambda: planner(pruner=[]), "pruner: a list is not a Pruner"),
    "readout list": (lambda: planner(readout=[]), "unknown readout []"),
    "system list": (lambda: planner(system=[]), "system: a list is not the name"),
    "text tokens": (lambda: planner(max_new_tokens="4"), "max_new_tokens: '4' is not a number of tokens"),
    "zero tokens": (lambda: planner(max_new_tokens=0), "max_new_tokens: 0 is not"),
    "fractional tokens": (lambda: planner(max_new_tokens=2.5), "max_new_tokens: 2.5 is not"),
    "true tokens": (lambda: planner(max_new_tokens=True), "max_new_tokens: True is not"),
    "frame None": (lambda: planner().plan_batch([None]), "frames: None is not a Frame"),  # type: ignore[list-item]
    "encoded text": (lambda: planner().decide("x"), "encoded: 'x' is not an EncodedFrame"),  # type: ignore[arg-type]
    "no question": (lambda: planner().encode(tiny_views(), None), "question: None is not a question"),  # type: ignore[arg-type]
    "no markers": (lambda: planner().decide(planner().encode(tiny_views(), "hi")), "[0] image placeholders"),
    "budget as number": (lambda: pruner_for(tiny_senna()[0], "fastv", 0.25), "budget: 0.25 is not a Budget"),  # type: ignore[arg-type]
    "no method": (lambda: pruner_for(tiny_senna()[0], None), "method: None is not the name of a method"),  # type: ignore[arg-type]
    "pruner for None": (lambda: pruner_for(None, "fastv"), "model: None is not"),  # type: ignore[arg-type]
    "prune by name": (lambda: prune(tiny_senna()[0], "fastv").__enter__(), "str is not a pruner"),  # type: ignore[arg-type]
    "prune nothing": (lambda: prune(None, pruner()).__enter__(), "NoneType holds no Llama-like decoder"),  # type: ignore[arg-type]
    "another depth": (
        lambda: planner(pruner=pruner(layers=8)).plan(IMAGES, 6.0, "go straight"),
        "'fastv' was built for 8 decoder layers, this model has 4",
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_wrong_arguments_are_one_typed_line(case: str) -> None:
    call, fragment = CALLS[case]
    with pytest.raises(SennaPruneError) as caught:
        call()
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


BROKEN: dict[str, Callable[[Any], Any]] = {
    "head": lambda model: model.lm_head.weight.data[100].fill_(float("nan")),
    "positions": lambda model: model.model.language_model.rotary_emb.inv_freq.fill_(float("nan")),
    "layer": lambda model: model.model.language_model.layers[1].mlp.down_proj.weight.data.fill_(float("inf")),
    "tower": lambda model: model.model.vision_tower.pre_layrnorm.weight.data.fill_(float("nan")),
}


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("name", ["none", "fastv", "fastervlm", "autoprune"])
@pytest.mark.parametrize("part", BROKEN)
def test_a_model_whose_numbers_are_not_finite_gives_no_plan(part: str, name: str, readout: Readout) -> None:
    model, processor = tiny_senna()
    BROKEN[part](model)
    with pytest.raises(InputError, match=r"not finite in float32\. Check the weights"):
        plan(model, processor, name, readout)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("autocast", [False, True])
def test_only_float16_is_told_to_use_another_type(autocast: bool, readout: Readout) -> None:
    model, processor = tiny_senna()
    model.lm_head.weight.data.mul_(3e4)
    model = model if autocast else model.half()
    with (
        torch.autocast("cpu", torch.float16, enabled=autocast),
        pytest.raises(InputError, match=r"float16 overflows\. Load it in bfloat16 or float32"),
    ):
        plan(model, processor, "none", readout)


def test_autocast_that_torch_cannot_mix_is_refused() -> None:
    model, processor = tiny_senna()
    with (
        torch.autocast("cpu", torch.float16),
        pytest.raises(InputError, match=r"autocast to torch\.float16 of a model"),
    ):
        plan(model.bfloat16(), processor, "none", "one_pass")


def test_one_planner_serves_many_threads() -> None:
    shared = planner(pruner=pruner("autoprune"))
    frames = [Frame(IMAGES, float(speed), "go straight") for speed in range(4)]
    expected = [shared.plan_batch([frame])[0] for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        plans = list(pool.map(lambda frame: shared.plan_batch([frame])[0], frames * 3))
    for own, alone in zip(plans, expected * 3, strict=True):
        assert own.distribution == alone.distribution
        assert own.trace.kept() == alone.trace.kept()


def test_a_refused_frame_leaves_the_planner_usable() -> None:
    own = planner(pruner=pruner(layers=8))
    encoded = own.encode(tiny_views(), planning_question(6.0, "go straight"))
    with pytest.raises(SennaPruneError, match="8 decoder layers"):
        own.decide(encoded)
    assert own.decide(encoded, pruner("autoprune")).distribution is not None


def test_a_question_that_is_too_long_names_its_sample(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model")
    data = write_planning_set(tmp_path / "data")
    overrides = [f"data.planning_set={data}", f"data.image_root={data.parent}", f"model.path={tmp_path / 'model'}"]
    config = load_config(EvaluationConfig, overrides=overrides)
    system, sample = SennaSystem(config), planning_set(config.data).samples[0]
    system.load()
    object.__setattr__(sample, "question", sample.question + " why?" * 3000)
    with pytest.raises(InputError, match=rf"sample {sample.key}: the prompt has \d+ tokens"):
        system.prepare(Task(sample, (), False, {}), [b""] * 6)
