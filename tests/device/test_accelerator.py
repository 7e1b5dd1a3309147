"""What a first run on an accelerator would meet: mixes of devices, waiting hosts, repeated uploads."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch

from senna_prune import Budget, Planner, prune, pruner_for
from senna_prune.devices import constant, copied_once, read_together
from senna_prune.planner.encode import Stopwatch
from senna_prune.pruning import method_names
from senna_prune.task.prompts import planning_question
from tests.device.accelerator import NAME, counted, device, dispatch, place
from tests.engine.test_prefill import inputs_for
from tests.fakes import tiny_senna, tiny_views
from tests.tiny_hosts import HOSTS, MROPE, TWO, prompts, tiny_host

pytestmark = pytest.mark.device
QUESTIONS = [planning_question(3.0, "go straight"), planning_question(12.0, "go straight and turn left")]
SCORED = ("autoprune", "fastervlm", "visionzip")
"""Methods that ask the vision tower for scores."""
every_method = pytest.mark.parametrize("method", method_names())


def host(kind: str, attention: str = "sdpa") -> tuple[Any, Any]:
    return tiny_senna(attn_implementation=attention) if kind == "senna" else tiny_host(kind, attention)


@lru_cache(maxsize=8)
def placed(kind: str, attention: str) -> tuple[Any, dict[int, dict[str, Any]]]:
    """A model on the device, and inputs of batches by size: the second prompt is shorter than the first."""
    model, processor = host(kind, attention)
    if kind == "senna":
        rows = {1: inputs_for(model, processor, (3.0,)), 2: inputs_for(model, processor, (12.0, 3.0))}
    else:
        rows = {1: prompts(processor, TWO[0]), 2: prompts(processor, *TWO)}
    return place(model), rows


def on_device(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value.to(device()) for name, value in inputs.items()}


def reads_of(kind: str, attention: str, batch: int, method: str) -> int:
    """Host reads of a pruned prompt; it and a step behind it fail where devices mix."""
    model, inputs = placed(kind, attention)
    with counted() as counts:
        pruner, given = pruner_for(model, method, Budget.retention(0.4)), on_device(inputs[batch])
        counts.clear()
        with prune(model, pruner) as trace:
            output = model(**given, use_cache=True, logits_to_keep=1)
            reads = counts["reads"]
            mask = given["attention_mask"]
            step = {"attention_mask": torch.cat([mask, mask[:, -1:]], dim=1), "past_key_values": output.past_key_values}
            # With M-RoPE `generate` says where the new token stands.
            places = {"position_ids": mask.sum(dim=1).expand(3, -1)[..., None]} if kind in MROPE else {}
            logits = model(input_ids=output.logits[:, -1:].argmax(-1), **step, **places).logits
        assert logits.device == output.logits.device == device()
        assert method == "none" or trace.samples[-1].entering[-1] < trace.samples[-1].num_visual
    return reads


@lru_cache
def unpruned_reads(kind: str, attention: str, batch: int) -> int:
    return reads_of(kind, attention, batch, "none")


@pytest.mark.parametrize("kind", ["senna", *HOSTS])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("batch", [1, 2])
@every_method
def test_every_method_stays_on_its_device(method: str, batch: int, attention: str, kind: str) -> None:
    """The host waits once more for AutoPrune, which measures a complexity, and for no other method."""
    reads = reads_of(kind, attention, batch, method) - unpruned_reads(kind, attention, batch)
    # Sizes of images lie on the device: each image or tile of these is asked for its own.
    packs = method in SCORED and kind in ("llava_next", *MROPE)
    assert reads == (method == "autoprune") or (packs and reads < 30)


ONE = (("", 0),)
SPLIT = (("", 0), ("model.language_model.layers.2", 1), ("model.language_model.layers.3", 1), ("lm_head", 1))
"""Decoder layers on two devices. The final norm stays on the first: the trace crosses twice."""
APART = [(("", tower), ("model.language_model", 1 - tower), ("lm_head", 1 - tower)) for tower in (0, 1)]
"""Tower and decoder on devices of their own, both ways."""


@lru_cache
def plans(
    places: tuple[tuple[str, int], ...], method: str, readout: Any = "one_pass"
) -> tuple[list[Any], dict[str, int]]:
    """Two decisions of two frames on devices, and what was counted during the second of them."""
    model, processor = tiny_senna()
    with counted() as counts:
        dispatch(model, dict(places))
        planner = Planner(model, processor, pruner_for(model, method, Budget.retention(0.4)), readout, max_new_tokens=3)
        encoded = [planner.encode(tiny_views(number), question) for number, question in enumerate(QUESTIONS)]
        planner.decide_batch(encoded)
        counts.clear()
        made = planner.decide_batch(encoded)
    return made, dict(counts)


@every_method
def test_layers_split_over_two_devices(method: str) -> None:
    made, counts = plans(SPLIT, method)
    assert counts["reads"] == 1 + (method == "autoprune")
    assert {tensor.device.type for plan in made for tensor in (*plan.trace.origins, *plan.trace.views)} == {"cpu"}


@pytest.mark.parametrize("readout", ["one_pass", "constrained", "generate"])
@pytest.mark.parametrize("method", ["none", "autoprune", "fastervlm"])
@pytest.mark.parametrize("places", [ONE, *APART], ids=["one", "decoder|tower", "tower|decoder"])
def test_a_decision_uploads_ids_and_reads_answers(places: Any, method: str, readout: Any) -> None:
    made, counts = plans(places, method, readout)
    measured = method == "autoprune"
    if readout == "generate":  # transformers waits for each token, and uploads the special ones
        unpruned = plans(places, "none", readout)[1]
        assert counts["reads"] == unpruned["reads"] + measured
        assert counts["uploads"] == unpruned["uploads"] <= 4
    else:
        assert counts["reads"] == 1 + measured
        assert counts["uploads"] == 1
    assert all(time > 0 for plan in made for time in vars(plan.timing).values())


def test_the_device_gives_the_numbers_of_the_host() -> None:
    planner = Planner(*tiny_senna())
    on_host = planner.decide_batch([planner.encode(tiny_views(n), question) for n, question in enumerate(QUESTIONS)])
    for plan, expected in zip(plans(ONE, "none")[0], on_host, strict=True):
        assert list(plan.distribution.values()) == pytest.approx(list(expected.distribution.values()), abs=1e-5)


def test_what_mixes_devices_fails_and_what_waits_is_counted() -> None:
    """The pretence itself."""
    with counted() as counts:
        first, second = torch.ones(3, device=device(0)), torch.ones(3, device=device(1))
        for mix in (lambda: first + second, lambda: first @ torch.ones(3), lambda: torch.cat([first, second])):
            with pytest.raises(RuntimeError, match=f"{NAME}:0"):
                mix()
        assert (first + second.to(device(0)) + torch.tensor(1.0)).sum().item() == 9
        assert first[first > 0].shape == (3,) and bool(first.all())
        view = first[:2]
        view += 1
        assert first.tolist() == [2, 2, 1]
    assert counts == {"transfers": 1, "reads": 4}


def test_constants_are_uploaded_once_and_tensors_read_in_one_copy() -> None:
    with counted() as counts:
        host = torch.arange(3)
        for _ in range(2):
            assert constant(((1, 2), (3, 4)), torch.float32, device()).device == device()
            assert copied_once(host, device()).tolist() == [0, 1, 2]
        assert counts == {"uploads": 2, "reads": 2}
        mixed = [torch.tensor(True), torch.arange(5), torch.ones(0, 2), torch.eye(3, dtype=torch.float16)]
        moved = [tensor.to(device(number % 2)) for number, tensor in enumerate(mixed)]
        counts.clear()
        found = read_together(moved)
        assert counts == {"transfers": 2, "reads": 1}
    for tensor, expected in zip(found, mixed, strict=True):
        assert torch.equal(tensor, expected) and tensor.dtype == expected.dtype
    with counted():
        watch = Stopwatch(device(), 2)
        watch.lap("one")
        assert list(watch.stages) == ["one"] and watch.stages["one"] > 0
