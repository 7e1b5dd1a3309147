"""Planner: images by camera name in, a meta-action out; every readout, pruner, convention and wrong input."""

from __future__ import annotations

import math
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from senna_prune.engine import prune
from senna_prune.errors import CheckpointError, ImageError, InputError, PruningError, SampleError, SennaPruneError
from senna_prune.model import SennaModel, planning_prompt, planning_question
from senna_prune.planner.planner import Frame, Planner, pruner_for
from senna_prune.planner.readouts import plan_trie, until_end
from senna_prune.pruning import Budget, Pruner
from senna_prune.task.answers import parse_answer
from senna_prune.task.labels import CAMERAS, CAMERAS_UPSTREAM, PLANS, Command, Path, Readout, Speed, plan_text
from tests.evaluation.checkpoint import write_checkpoint
from tests.fakes import tiny_senna, tiny_views

READOUTS: tuple[Readout, ...] = ("generate", "constrained", "one_pass")


def images(seed: int = 0) -> dict[str, Any]:
    return dict(zip(CAMERAS, tiny_views(seed), strict=True))


def pruner(name: str = "autoprune", retention: float = 0.5) -> Pruner:
    return pruner_for(tiny_senna()[0], name, Budget.retention(retention))


def frames() -> list[Frame]:
    commands = ("go straight", Command.LEFT, "go straight and turn right")
    return [Frame(images(i), 4.5 * i, command) for i, command in enumerate(commands)]


def distribution(planner: Planner, pictures: Any) -> Any:
    return planner.plan(pictures, 6.0, "go straight").distribution


@pytest.mark.parametrize("readout", READOUTS)
def test_plan_is_complete(readout: Readout) -> None:
    plan = Planner(*tiny_senna(), pruner(), readout).plan(images(), 6.0, "go straight")
    answer = parse_answer(plan.text)
    assert (plan.speed, plan.path) == (answer.speed, answer.path)
    assert sum(plan.trace.entering) / 4 == pytest.approx(24, abs=1)
    stages = vars(plan.timing)
    assert list(stages) == ["preprocess", "vision", "adapter", "prefill", "readout"]
    assert all(time > 0 for time in stages.values())
    assert plan.timing.total == pytest.approx(sum(stages.values()))
    if readout == "generate":
        assert plan.distribution is None
        assert plan.readout_positions == 31
    else:
        assert plan.distribution is not None
        assert list(plan.distribution) == list(PLANS)
        assert sum(plan.distribution.values()) == pytest.approx(1)
        assert isinstance(plan.speed, Speed)
        assert isinstance(plan.path, Path)


def test_score_takes_the_most_probable_plan() -> None:
    plan = Planner(*tiny_senna(), None, "one_pass").plan(images(), 6.0, "go straight")
    assert plan.distribution is not None
    assert (plan.speed, plan.path) == max(plan.distribution, key=lambda known: plan.distribution[known])  # type: ignore[index]


def test_constrained_follows_the_models_own_first_choice_among_the_plans() -> None:
    model, processor = tiny_senna()
    planner = Planner(model, processor, None, "constrained")
    text = planner.plan(images(), 6.0, "go straight").text
    prompt = planning_prompt(planning_question(6.0, "go straight"))
    inputs = processor(text=prompt, images=list(images().values()))
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1]
    firsts = {answer[0] for answer in planner.answers.answers}
    best = max(firsts, key=lambda token: float(logits[token]))
    chosen = planner.answers.answers[[plan_text(*plan) for plan in PLANS].index(text)]
    assert chosen[0] == best


@pytest.mark.parametrize("name", ["none", "autoprune", "fastervlm"])
def test_generate_equals_the_plain_model_under_prune(name: str) -> None:
    model, processor = tiny_senna()
    policy = pruner(name)
    text = Planner(model, processor, policy, "generate").plan(images(), 6.0, "go straight").text
    inputs = processor(text=planning_prompt(planning_question(6.0, "go straight")), images=list(images().values()))
    generator: Any = model
    with prune(model, policy):
        ids = generator.generate(**inputs, max_new_tokens=32, do_sample=False)
    assert text == processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


@pytest.mark.parametrize("name", ["none", "autoprune", "fastervlm", "blind"])
@pytest.mark.parametrize("readout", READOUTS)
def test_batch_equals_singles(readout: Readout, name: str) -> None:
    planner = Planner(*tiny_senna(), pruner(name), readout)
    singles = [planner.plan(frame.images, frame.speed, frame.command) for frame in frames()]
    for single, batched in zip(singles, planner.plan_batch(frames()), strict=True):
        assert single.text == batched.text
        assert single.trace.kept() == batched.trace.kept()
        if single.distribution is not None and batched.distribution is not None:
            assert list(single.distribution.values()) == pytest.approx(list(batched.distribution.values()), abs=1e-4)


def test_warming_up_changes_no_plan() -> None:
    planner = Planner(*tiny_senna(), pruner())
    before = distribution(planner, images())
    assert planner.warm_up() == 0
    assert distribution(planner, images()) == before


def test_an_empty_batch_is_empty() -> None:
    assert Planner(*tiny_senna()).plan_batch([]) == []


def test_order_of_the_mapping_does_not_matter() -> None:
    planner = Planner(*tiny_senna())
    assert distribution(planner, dict(reversed(images().items()))) == distribution(planner, images())


def test_convention_decides_which_image_stands_under_which_label() -> None:
    model, processor = tiny_senna()
    swapped = {label_owner: images()[stored] for label_owner, stored in zip(CAMERAS, CAMERAS_UPSTREAM, strict=True)}
    corrected, upstream = (Planner(model, processor, convention=order) for order in ("corrected", "upstream"))
    released = distribution(upstream, images())
    assert released == distribution(corrected, swapped) != distribution(corrected, images())


def test_pictures_of_every_kind_agree(tmp_path: FilePath) -> None:
    planner = Planner(*tiny_senna(), None, "one_pass")
    expected = distribution(planner, images())
    paths = {}
    for camera, array in images().items():
        paths[camera] = tmp_path / f"{camera}.png"
        Image.fromarray(array).save(paths[camera])
    opened = {camera: Image.fromarray(array) for camera, array in images().items()}
    for pictures in (paths, opened, {camera: str(path) for camera, path in paths.items()}):
        assert distribution(planner, pictures) == expected


@pytest.mark.parametrize("speed", [np.float32(6.9), np.int64(6), 6])
def test_any_real_number_is_a_speed(speed: Any) -> None:
    planner = Planner(*tiny_senna(), None, "one_pass")
    assert planner.plan(images(), speed, "go straight").text == planner.plan(images(), 6.0, "go straight").text


def test_one_encoding_serves_many_pruners() -> None:
    planner = Planner(*tiny_senna(), pruner("autoprune"))
    question = planning_question(6.0, "go straight")
    encoded = planner.encode(list(images().values()), question)
    calls: list[int] = []
    handle = planner.model.model.vision_tower.embeddings.register_forward_hook(lambda *_: calls.append(1))
    for name in ("autoprune", "fastervlm", "none"):
        alone = Planner(planner.model, planner.processor, pruner(name)).plan(images(), 6.0, "go straight")
        assert planner.decide(encoded, pruner(name)).text == alone.text
    handle.remove()
    assert len(calls) == 3, "deciding must not run the vision tower again"


@pytest.mark.parametrize(("name", "computed"), [("none", 0), ("fastv", 0), ("fastervlm", 1), ("autoprune", 1)])
def test_evidence_is_computed_and_timed_only_for_pruners_that_need_it(
    name: str, computed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner, calls, compute = Planner(*tiny_senna()), list[int](), SennaModel.vision_scores
    monkeypatch.setattr(SennaModel, "vision_scores", lambda *args: calls.append(1) or compute(*args))
    encoded = planner.encode(list(images().values()), planning_question(6.0, "go straight"))
    plans = [planner.decide(encoded, pruner(name)) for _ in range(2)]
    assert len(calls) == computed, "once for all decisions on a frame"
    for plan in plans:
        assert (plan.timing.vision > encoded.stages()["vision"]) == bool(computed), "every one that needs it pays"


def test_trie_spells_the_plans_as_the_tokenizer_does_in_context() -> None:
    _, processor = tiny_senna()
    prompt = planning_prompt(planning_question(6.0, "turn right"))
    head = processor.encode_prompt(prompt).tolist()
    for answer, plan in zip(plan_trie(processor).answers, PLANS, strict=True):
        assert processor.encode_prompt(f"{prompt} {plan_text(*plan)}").tolist() == [*head, *answer]


def without(camera: str) -> dict[str, Any]:
    return {name: image for name, image in images().items() if name != camera}


def with_one(camera: str, image: Any) -> dict[str, Any]:
    return images() | {camera: image}


BAD: dict[str, tuple[Any, Any, Any, type[SennaPruneError], str]] = {
    "missing camera": (
        {c: v for c, v in images().items() if c != "CAM_BACK"},
        6,
        "",
        InputError,
        "no image of CAM_BACK",
    ),
    "several missing": ({}, 6, "go straight", InputError, "no image of CAM_FRONT, CAM_FRONT_LEFT"),
    "extra camera": (with_one("CAM_TOP", 0), 6, "go straight", InputError, "unknown camera 'CAM_TOP'"),
    "a list": (tiny_views(), 6, "go straight", InputError, "a list does not say"),
    "no image": (with_one("CAM_FRONT", 3), 6, "go straight", InputError, "CAM_FRONT: int is not an image"),
    "floats": (
        with_one("CAM_BACK", np.zeros((8, 8, 3))),
        6,
        "go straight",
        InputError,
        "CAM_BACK: the array holds float",
    ),
    "missing file": (with_one("CAM_BACK", "/no.jpg"), 6, "go straight", ImageError, "/no.jpg: no such image file"),
    "empty": (
        with_one("CAM_BACK", Image.new("L", (0, 0))),
        6,
        "go straight",
        ImageError,
        "CAM_BACK: the image is empty",
    ),
    "nan": (images(), math.nan, "go straight", InputError, "speed: nan is not a speed"),
    "infinite": (images(), math.inf, "go straight", InputError, "speed: inf"),
    "negative": (images(), -0.1, "go straight", InputError, "speed: -0.1"),
    "speed in words": (images(), "6", "go straight", InputError, "speed: '6'"),
    "no speed": (images(), None, "go straight", InputError, "speed: None"),
    "a truth value": (images(), True, "go straight", InputError, "speed: True"),
    "unknown command": (images(), 6, "turn lef", InputError, "mean 'turn left'? Known: go straight"),
    "no command": (images(), 6, None, InputError, "command: unknown command None"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_inputs_are_named_in_one_line(case: str) -> None:
    *given, kind, fragment = BAD[case]
    with pytest.raises(kind) as caught:
        Planner(*tiny_senna()).plan(*given)
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_settings_are_named() -> None:
    for name, error, what in (
        ("readout", InputError, "readout 'mine'"),
        ("convention", SampleError, "convention 'mine'"),
        ("system", InputError, "system sentence"),
    ):
        setting: dict[str, Any] = {name: "mine"}
        with pytest.raises(error, match=f"unknown {what}"):
            Planner(*tiny_senna(), **setting)


def test_a_batch_is_seen_in_one_pass_of_the_tower() -> None:
    model, processor = tiny_senna()
    planner, passes = Planner(model, processor, pruner("fastervlm")), []
    handle = model.model.vision_tower.encoder.layers[0].register_forward_hook(lambda m, a, o: passes.append(len(o)))
    planner.plan_batch(frames())
    handle.remove()
    assert passes == [6 * len(frames())]


def test_loading_needs_no_model_and_may_run_in_another_thread() -> None:
    planner = Planner(*tiny_senna(), pruner("fastervlm"))
    given = [(list(images(seed).values()), planning_question(seed, "go straight")) for seed in range(3)]
    with ThreadPoolExecutor(2) as pool:
        loaded = list(pool.map(lambda frame: planner.preprocess(*frame), given))
    for frame, again in zip(loaded, (planner.preprocess(*frame) for frame in given), strict=True):
        assert torch.equal(frame.input_ids, again.input_ids)
        assert torch.equal(frame.pixel_values, again.pixel_values)
    seen, encoded = planner.encode_images(loaded), [planner.encode(*frame) for frame in given]
    for one, other, frame in zip(seen, encoded, loaded, strict=True):
        torch.testing.assert_close(one.tokens, other.tokens)
        assert one.preprocess == frame.milliseconds
    assert planner.encode_images([]) == []
    with pytest.raises(ImageError, match="no such image file"):
        planner.preprocess(["/no/such.jpg"] * 6, given[0][1])


def test_an_answer_that_ends_early_does_not_count_the_padding_of_its_batch() -> None:
    rows = [[5, 6, 2, 0, 0], [5, 6, 7, 8, 2], [5, 6, 7, 8, 9]]
    for ends in (2, [2, 3]):
        assert [until_end(row, ends) for row in rows] == [[5, 6, 2], [5, 6, 7, 8, 2], [5, 6, 7, 8, 9]]
    assert until_end(rows[0], None) == rows[0]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def test_one_call_equals_the_three_it_replaces(checkpoint: FilePath) -> None:
    budget = Budget.retention(0.5)
    short = Planner.from_pretrained(checkpoint, "autoprune", budget, {"variant": "paper"}, convention="upstream")
    model, processor = tiny_senna()
    pruner = pruner_for(model, "autoprune", budget, variant="paper")
    long = Planner(model, processor, pruner, convention="upstream")
    plans = [planner.plan(images(), 6.0, "go straight") for planner in (short, long)]
    assert plans[0].trace.entering == plans[1].trace.entering
    assert plans[0].distribution == pytest.approx(plans[1].distribution, abs=1e-5)


def test_how_it_runs_is_handed_on(checkpoint: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", sys.executable)  # stands in for a compiler, which nothing here calls
    planner = Planner.from_pretrained(checkpoint, compiled=True, preprocess="device")
    assert planner.captured is not None and planner.resize_on is not None
    plain = Planner.from_pretrained(checkpoint)
    assert plain.captured is None and plain.resize_on is None


def test_what_is_wrong_is_said_as_before(checkpoint: FilePath, tmp_path: FilePath) -> None:
    with pytest.raises(PruningError, match="autoprun"):
        Planner.from_pretrained(checkpoint, "autoprun")
    with pytest.raises(CheckpointError):
        Planner.from_pretrained(tmp_path)


@pytest.mark.parametrize("readout", ["one_pass", "generate"])
def test_a_plan_prints_as_one_line(readout: Readout) -> None:
    model, processor = tiny_senna()
    planner = Planner(model, processor, pruner_for(model, "random", Budget.retention(0.5)), readout)
    shown = str(planner.plan(images(), 6.0, "go straight"))
    assert "\n" not in shown and "tensor" not in shown
    odds = r"; probability 0\.\d\d" if readout == "one_pass" else ""
    assert re.fullmatch(rf"Plan\(.+{odds}; 24\.0 of 48 visual tokens per layer; \d+ ms\)", shown), shown
